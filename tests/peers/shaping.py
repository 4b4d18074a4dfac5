"""Routes with header operations, redirects and conditions beyond the common ones, once for each side."""

from documents import destination, header, text, to

SET = "OVERWRITE_IF_EXISTS_OR_ADD"


def writes(operations):
    """Envoy's form of `set` and `add`: by name, all of `set` first, as Istio sorts them."""
    for mode, action in (("set", {"append_action": SET}), ("add", {})):
        for name, value in sorted(operations.get(mode, {}).items()):
            yield {"header": {"key": name, "value": value}, **action}


def edits(operations):
    """Envoy's fields for `headers`."""
    fields = {}
    for side in ("request", "response"):
        its = operations.get(side, {})
        if lines := list(writes(its)):
            fields[f"{side}_headers_to_add"] = lines
        if its.get("remove"):
            fields[f"{side}_headers_to_remove"] = its["remove"]
    return fields


def joined(first, second):
    """Two lists of operations, the second applied after the first."""
    fields = edits(first)
    for name, lines in edits(second).items():
        fields[name] = fields.get(name, []) + lines
    return fields


def headers(name, operations):
    return name, {"route": destination(), "headers": operations}, {**to(), **edits(operations)}


def direct(name, operations, body=None):
    istio, envoy = {"status": 202}, {"status": 202}
    if body is not None:
        istio["body"] = {"string": body}
        envoy["body"] = {"inline_string": body}
    operations = {"response": operations}
    return name, {"directResponse": istio, "headers": operations}, {"direct_response": envoy, **edits(operations)}


OF_THE_RULE = {
    "request": {"set": {"x-both": "rule", "x-rule": "1"}, "add": {"x-list": "rule"}, "remove": ["x-gone", "x-from-destination"]},
    "response": {"set": {"x-both": "rule"}, "add": {"x-list": "rule"}, "remove": ["x-upstream"]},
}
OF_THE_DESTINATION = {
    "request": {"set": {"x-both": "destination", "x-from-destination": "1"}, "add": {"x-list": "destination"}, "remove": ["x-rule"]},
    "response": {"set": {"x-both": "destination"}, "add": {"x-list": "destination"}, "remove": ["content-type"]},
}
OPERATORS = {
    "x-method": "%REQ(:METHOD)%",
    "x-path": "%REQ(:PATH)%",
    "x-authority": "%REQ(:AUTHORITY)%",
    "x-either": "%REQ(X-ABSENT?X-SENT)%",
    "x-none": "%REQ(X-ABSENT)%",
    "x-some": "<%REQ(X-ABSENT)%|%REQ(X-SENT)%>",
    "x-protocol": "%PROTOCOL%",
    "x-route-name": "%ROUTE_NAME%",
    "x-client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "x-local": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "x-percent": "100%%",
}
OF_RESPONSES = {
    "x-code": "%RESPONSE_CODE%",
    "x-flags": "%RESPONSE_FLAGS%",
    "x-details": "%RESPONSE_CODE_DETAILS%",
    "x-from-response": "%RESP(X-UPSTREAM)%",
    "x-from-request": "%REQ(X-SENT)%",
    "x-upstream-address": "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
}


def two(subset):
    return {"destination": destination(subset)[0]["destination"]}


HEADERS = [
    headers("operators", {"request": {"set": OPERATORS}, "response": {"set": OF_RESPONSES}}),
    headers("host", {"request": {"set": {"x-one": "1"}, "add": {"x-one": "2"}, "remove": ["x-one"]}}),
    headers("own", {"request": {"set": {"x-request-id": "mine", "accept": "mine"}, "remove": ["x-forwarded-for"]}}),
    headers("answers", {"response": {"set": {"server": "mine", "date": "today"}}}),
    (
        "one-destination",
        {"route": [{**two("v1"), "headers": OF_THE_DESTINATION}], "headers": OF_THE_RULE},
        {**to(), **joined(OF_THE_RULE, OF_THE_DESTINATION)},
    ),
    (
        "two-destinations",
        {"route": [{**two("v1"), "weight": 50, "headers": OF_THE_DESTINATION}, {**two("v1"), "weight": 50, "headers": OF_THE_DESTINATION}], "headers": OF_THE_RULE},
        {
            **to(
                cluster=None,
                weighted_clusters={
                    "clusters": [{"name": "v1", "weight": 50, **edits(OF_THE_DESTINATION)} for _ in range(2)]
                },
            ),
            **edits(OF_THE_RULE),
        },
    ),
    (
        "host-by-header",
        {"route": destination(), "headers": {"request": {"set": {"Host": "set.test"}}}},
        to(host_rewrite_literal="set.test"),
    ),
    headers("empty", {"request": {"set": {"x-sent": "%REQ(X-ABSENT)%", "x-list": "", "x-new": "%REQ(X-EMPTY)%"}}}),
    headers(
        "renamed",
        {
            "request": {"set": {"x-new": "%REQ(X-SENT)%"}, "remove": ["x-sent"]},
            "response": {"set": {"x-new": "%REQ(X-SENT)%"}},
        },
    ),
    (
        "added-and-set",
        {
            "route": [{**two("v1"), "headers": {"request": {"set": {"x-list": "destination"}}}}],
            "headers": {"request": {"add": {"x-list": "rule"}}},
        },
        {**to(), **joined({"request": {"add": {"x-list": "rule"}}}, {"request": {"set": {"x-list": "destination"}}})},
    ),
    direct("direct-edits", {"add": {"x-code": "%RESPONSE_CODE%", "x-sent": "%REQ(X-SENT)%"}}),
    direct("direct-json", {"set": {"content-type": "application/json"}}, "{}"),
    direct("direct-bare", {"remove": ["content-type"]}, "bare"),
]


def redirect(name, istio, envoy):
    return name, {"redirect": istio}, {"redirect": envoy}


REDIRECTS = [
    redirect("prefix", {"prefixRewrite": "/new/"}, {"prefix_rewrite": "/new/"}),
    redirect("prefix-host", {"prefixRewrite": "/", "authority": "other.test"}, {"prefix_rewrite": "/", "host_redirect": "other.test"}),
    redirect("303", {"uri": "/see", "redirectCode": 303}, {"path_redirect": "/see", "response_code": "SEE_OTHER"}),
    redirect("308", {"uri": "/see", "redirectCode": 308}, {"path_redirect": "/see", "response_code": "PERMANENT_REDIRECT"}),
    redirect("https-port", {"scheme": "https", "port": 443}, {"scheme_redirect": "https"}),
    redirect("http-port", {"port": 80}, {"path_redirect": ""}),
    redirect("derived", {"scheme": "https", "derivePort": "FROM_PROTOCOL_DEFAULT"}, {"scheme_redirect": "https"}),
    redirect("host-port", {"authority": "other.test:8080"}, {"host_redirect": "other.test:8080"}),
    redirect("host-port-https", {"authority": "other.test:443", "scheme": "https"}, {"host_redirect": "other.test:443", "scheme_redirect": "https"}),
    redirect("query", {"uri": "/see?own=1"}, {"path_redirect": "/see?own=1"}),
]

CONDITIONS = [
    ("scheme", {"scheme": {"exact": "http"}}, {"headers": [header(":scheme", **text(exact="http"))]}),
    ("scheme-https", {"scheme": {"exact": "https"}}, {"headers": [header(":scheme", **text(exact="https"))]}),
    (
        "all-at-once",
        {"method": {"exact": "GET"}, "headers": {"x-one": {"exact": "1"}, "x-two": {"prefix": "2"}}, "queryParams": {"q": {}}},
        {
            "headers": [
                header(":method", **text(exact="GET")),
                header("x-one", **text(exact="1")),
                header("x-two", **text(prefix="2")),
            ],
            "query_parameters": [header("q", present_match=True)],
        },
    ),
    ("query-prefix", {"queryParams": {"q": {"prefix": "on"}}}, {"query_parameters": [header("q", **text(prefix="on"))]}),
    ("query-empty", {"queryParams": {"q": {"exact": ""}}}, {"query_parameters": [header("q", **text(exact=""))]}),
    ("cookie", {"headers": {"cookie": {"regex": "^(.*?;)?(user=jason)(;.*)?$"}}}, {"headers": [header("cookie", **text(safe_regex={"regex": "^(.*?;)?(user=jason)(;.*)?$"}))]}),
    ("header-empty", {"headers": {"x-any": {"exact": ""}}}, {"headers": [header("x-any", **text(exact=""))]}),
    ("not-prefix", {"withoutHeaders": {"x-no": {"prefix": "a"}}}, {"headers": [header("x-no", invert_match=True, treat_missing_header_as_empty=True, **text(prefix="a"))]}),
    ("not-regex", {"withoutHeaders": {"x-no": {"regex": "a.*"}}}, {"headers": [header("x-no", invert_match=True, treat_missing_header_as_empty=True, **text(safe_regex={"regex": "a.*"}))]}),
]


def condition(name, istio, envoy):
    """A route by its name as the prefix, and by more."""
    prefix = f"/{name}/"
    return (
        name,
        {"match": [{"uri": {"prefix": prefix}, **istio}], "route": destination()},
        {"match": {"prefix": prefix, **envoy}, **to()},
    )


def hosts():
    """Per virtual host: its name, its domain and its routes."""
    yield "headers", "headers.test", HEADERS
    yield "redirects", "redirects.test", REDIRECTS


def conditional_routes():
    return [condition(*each) for each in CONDITIONS]
