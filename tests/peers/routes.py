"""The same intent twice: as Istio's documents for Ringroad, and as Istio would tell Envoy.

Each entry is one route: its name, the `http` entry of the VirtualService, and Envoy's `match` with
what else its route needs. Both sides answer with `x-route`, which tells which route was taken.
"""

import copy

import resilience
import shaping
from documents import destination, header, regex, text, to

ANY = {"prefix": "/"}

MATCHING = [
    ("exact", {"match": [{"uri": {"exact": "/exact"}}]}, {"path": "/exact"}),
    ("prefix", {"match": [{"uri": {"prefix": "/prefix"}}]}, {"prefix": "/prefix"}),
    ("slash-prefix", {"match": [{"uri": {"prefix": "/tree/"}}]}, {"prefix": "/tree/"}),
    ("regex", {"match": [{"uri": {"regex": "/regex/[0-9]+"}}]}, regex("/regex/[0-9]+")),
    (
        "no-case",
        {"match": [{"uri": {"exact": "/NoCase"}, "ignoreUriCase": True}]},
        {"path": "/NoCase", "case_sensitive": False},
    ),
    (
        "no-case-prefix",
        {"match": [{"uri": {"prefix": "/AnyCase"}, "ignoreUriCase": True}]},
        {"prefix": "/AnyCase", "case_sensitive": False},
    ),
    (
        "method",
        {"match": [{"uri": {"prefix": "/by"}, "method": {"exact": "PUT"}}]},
        {"prefix": "/by", "headers": [header(":method", **text(exact="PUT"))]},
    ),
    (
        "header-exact",
        {"match": [{"uri": {"prefix": "/by"}, "headers": {"x-exact": {"exact": "one"}}}]},
        {"prefix": "/by", "headers": [header("x-exact", **text(exact="one"))]},
    ),
    (
        "header-joined",
        {"match": [{"uri": {"prefix": "/by"}, "headers": {"x-joined": {"exact": "one,two"}}}]},
        {"prefix": "/by", "headers": [header("x-joined", **text(exact="one,two"))]},
    ),
    (
        "header-prefix",
        {"match": [{"uri": {"prefix": "/by"}, "headers": {"x-prefix": {"prefix": "on"}}}]},
        {"prefix": "/by", "headers": [header("x-prefix", **text(prefix="on"))]},
    ),
    (
        "header-regex",
        {"match": [{"uri": {"prefix": "/by"}, "headers": {"x-regex": {"regex": "o.e"}}}]},
        {"prefix": "/by", "headers": [header("x-regex", **text(**regex("o.e")))]},
    ),
    (
        "header-present",
        {"match": [{"uri": {"prefix": "/by"}, "headers": {"x-present": {}}}]},
        {"prefix": "/by", "headers": [header("x-present", present_match=True)]},
    ),
    (
        "query-exact",
        {"match": [{"uri": {"prefix": "/by"}, "queryParams": {"q": {"exact": "one"}}}]},
        {"prefix": "/by", "query_parameters": [header("q", **text(exact="one"))]},
    ),
    (
        "query-regex",
        {"match": [{"uri": {"prefix": "/by"}, "queryParams": {"r": {"regex": "[0-9]+"}}}]},
        {"prefix": "/by", "query_parameters": [header("r", **text(**regex("[0-9]+")))]},
    ),
    (
        "without",
        {"match": [{"uri": {"prefix": "/without"}, "withoutHeaders": {"x-no": {"exact": "yes"}}}]},
        {
            "prefix": "/without",
            "headers": [
                header("x-no", invert_match=True, treat_missing_header_as_empty=True, **text(exact="yes"))
            ],
        },
    ),
    (
        "without-present",
        {"match": [{"uri": {"prefix": "/absent"}, "withoutHeaders": {"x-no": {}}}]},
        {"prefix": "/absent", "headers": [header("x-no", present_match=True, invert_match=True)]},
    ),
    (
        "authority",
        {"match": [{"uri": {"prefix": "/authority"}, "authority": {"prefix": "match.test:"}}]},
        {"prefix": "/authority", "headers": [header(":authority", **text(prefix="match.test:"))]},
    ),
]

# What the gateway makes of these headers itself, or takes from nobody.
FORGED = {
    "x-forwarded-client-cert": "URI=spiffe://a/b",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "10.0.0.9",
    "x-envoy-external-address": "10.0.0.9",
    "x-envoy-internal": "true",
    "x-envoy-original-path": "/public",
    "x-envoy-retry-on": "5xx",
    "x-envoy-other": "other",
    "x-request-id": "abc",
    "keep-alive": "x",
    "proxy-connection": "x",
    "te": "gzip",
    "x-named": "1",
}
MATCHING += [
    (
        f"forged-{name}",
        {"match": [{"uri": {"prefix": "/forged"}, "headers": {name: {"exact": value}}}]},
        {"prefix": "/forged", "headers": [header(name, **text(exact=value))]},
    )
    for name, value in FORGED.items()
]
MATCHING += [
    (
        f"made-{name}",
        {"match": [{"uri": {"prefix": f"/made/{name}"}, "headers": {name: match}}]},
        {"prefix": f"/made/{name}", "headers": [header(name, **text(**match))]},
    )
    for name, match in [
        ("x-forwarded-proto", {"exact": "http"}),
        ("x-forwarded-for", {"prefix": "10.0.0.9,"}),
        ("te", {"exact": "trailers"}),
    ]
]


def redirect(**fields):
    return {"redirect": fields}


# name, the VirtualService's fields, Envoy's fields; the path is the name.
ACTIONS = [
    ("redirect-uri", redirect(uri="/new"), redirect(path_redirect="/new")),
    ("redirect-authority", redirect(authority="other.test"), redirect(host_redirect="other.test")),
    (
        "redirect-https",
        redirect(scheme="https"),
        redirect(scheme_redirect="https"),
    ),
    ("redirect-port", redirect(port=8443), redirect(port_redirect=8443)),
    (
        "redirect-302",
        redirect(uri="/found", redirectCode=302),
        redirect(path_redirect="/found", response_code="FOUND"),
    ),
    (
        "redirect-307",
        redirect(authority="other.test", uri="/there?own=1", redirectCode=307),
        redirect(
            host_redirect="other.test",
            path_redirect="/there?own=1",
            response_code="TEMPORARY_REDIRECT",
        ),
    ),
    (
        "direct-body",
        {"directResponse": {"status": 418, "body": {"string": "short and stout"}}},
        {"direct_response": {"status": 418, "body": {"inline_string": "short and stout"}}},
    ),
    ("direct-created", {"directResponse": {"status": 201}}, {"direct_response": {"status": 201}}),
    ("direct-moved", {"directResponse": {"status": 302}}, {"direct_response": {"status": 302}}),
    (
        "direct-kept",
        {"directResponse": {"status": 307}, "headers": {"response": {"set": {"location": "/own"}}}},
        {
            "direct_response": {"status": 307},
            "response_headers_to_add": [
                {"header": {"key": "location", "value": "/own"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        },
    ),
    ("direct-bare", {"directResponse": {"status": 503}}, {"direct_response": {"status": 503}}),
    (
        "rewrite-prefix",
        {"rewrite": {"uri": "/moved"}, "route": destination()},
        to(prefix_rewrite="/moved"),
    ),
    (
        "rewrite-authority",
        {"rewrite": {"authority": "inner.test"}, "route": destination()},
        to(host_rewrite_literal="inner.test"),
    ),
    (
        "rewrite-regex",
        {
            "rewrite": {"uriRegexRewrite": {"match": "/item/([0-9]+)", "rewrite": "/thing-\\1"}},
            "route": destination(),
        },
        to(regex_rewrite={"pattern": {"regex": "/item/([0-9]+)"}, "substitution": "/thing-\\1"}),
    ),
    ("timeout", {"timeout": "0.3s", "route": destination()}, to(timeout="0.3s")),
    ("refused", {"route": [{"destination": {"host": "refused.internal"}}]}, to("refused")),
    ("missing", {"route": [{"destination": {"host": "missing.internal"}}]}, to("missing")),
    ("empty", {"route": destination("none")}, to("empty")),
    ("second", {"route": destination("v2")}, to("v2")),
    (
        "edits",
        {
            "route": destination(),
            "headers": {
                "request": {
                    "set": {"x-set": "set", "x-new": "new"},
                    "add": {"x-add": "added"},
                    "remove": ["x-remove"],
                },
                "response": {
                    "set": {"x-upstream": "hidden"},
                    "add": {"x-extra": "extra"},
                    "remove": ["content-type"],
                },
            },
        },
        {
            **to(),
            "request_headers_to_add": [
                {"header": {"key": "x-set", "value": "set"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                {"header": {"key": "x-new", "value": "new"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
                {"header": {"key": "x-add", "value": "added"}},
            ],
            "request_headers_to_remove": ["x-remove"],
            "response_headers_to_add": [
                {
                    "header": {"key": "x-upstream", "value": "hidden"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                },
                {"header": {"key": "x-extra", "value": "extra"}},
            ],
            "response_headers_to_remove": ["content-type"],
        },
    ),
]


def tag_istio(name, route):
    """Adds the route's name, and the answer's `x-route`."""
    route = copy.deepcopy(route)
    route["name"] = name
    headers = route.setdefault("headers", {}).setdefault("response", {})
    headers.setdefault("set", {})["x-route"] = name
    return route


def tag_envoy(name, route):
    route["name"] = name
    line = {"header": {"key": "x-route", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    route.setdefault("response_headers_to_add", []).append(line)
    return route


def by_name(routes, end=""):
    """Gives each route a prefix, its name and `end`."""
    prefixes = [{"prefix": f"/{name}{end}"} for name, _, _ in routes]
    return [
        (name, {"match": [{"uri": prefix}], **istio}, {"match": prefix, **envoy})
        for prefix, (name, istio, envoy) in zip(prefixes, routes)
    ]


def hosts():
    """Per virtual host: its name, its domain, Istio's routes and Envoy's."""
    matching = [(name, {**istio, "route": destination()}, {"match": envoy, **to()}) for name, istio, envoy in MATCHING]
    actions = by_name(ACTIONS)
    # With another match than a prefix a rewrite replaces the whole path.
    actions.append(
        (
            "whole",
            {
                "match": [{"uri": {"regex": "/whole/.*"}}],
                "rewrite": {"uri": "/replaced"},
                "route": destination(),
            },
            {
                "match": regex("/whole/.*"),
                **to(regex_rewrite={"pattern": {"regex": "/.+"}, "substitution": "/replaced"}),
            },
        )
    )
    plain = [("plain", {"route": destination()}, {"match": ANY, **to()})]
    wildcard = [("wildcard", {"route": destination()}, {"match": ANY, **to()})]
    exact = [("beside", {"route": destination("v2")}, {"match": ANY, **to("v2")})]
    for name, domain, routes in [
        ("match", "match.test", matching),
        ("act", "act.test", actions),
        ("plain", "plain.test", plain),
        ("wild", "*.wild.test", wildcard),
        ("beside", "beside.wild.test", exact),
        ("conditions", "conditions.test", shaping.conditional_routes()),
        *((name, domain, by_name(routes, "/")) for name, domain, routes in [*resilience.hosts(), *shaping.hosts()]),
    ]:
        istio = [tag_istio(route, document) for route, document, _ in routes]
        envoy = [tag_envoy(route, document) for route, _, document in routes]
        yield name, domain, istio, envoy
