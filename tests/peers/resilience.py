"""Routes with retries, time limits, faults, cross-origin rules and mirrors, once for each side.

The path of a route is its name, and a last segment `try-A,B,C` tells the upstream how to answer the
first, the second and each further request of that path.
"""

from documents import destination, retry_policy, to

def retries(name, istio, envoy, timeout=None, cluster="v1", target=None):
    """A route; `istio` and `envoy` are None where there is no retrying."""
    ours = {"route": target or destination()}
    if istio is not None:
        ours["retries"] = istio
    if timeout:
        ours["timeout"] = timeout
    return name, ours, to(cluster, retry_policy=envoy, timeout=timeout or "0s")


def on(conditions, attempts=2):
    """A policy whose conditions are said alike on both sides."""
    return {"attempts": attempts, "retryOn": conditions}, retry_policy(conditions, attempts)


GRPC = "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"
REFUSED = [{"destination": {"host": "refused.internal"}}]
MISSING = [{"destination": {"host": "missing.internal"}}]
NOWHERE = {"cluster": "missing", "target": MISSING}

RETRIES = [
    retries("default", None, retry_policy()),
    retries("never", {"attempts": 0}, None),
    retries("once", {"attempts": 1}, retry_policy(attempts=1)),
    retries("5xx", *on("5xx")),
    retries("gateway-error", *on("gateway-error")),
    retries("reset", *on("reset")),
    retries("reset-before-request", *on("reset-before-request")),
    retries("connect-failure", *on("connect-failure")),
    retries("retriable-4xx", *on("retriable-4xx")),
    retries("rate-limited", *on("envoy-ratelimited")),
    retries("grpc", *on(GRPC)),
    retries(
        "codes",
        {"attempts": 3, "retryOn": "404,503"},
        retry_policy("retriable-status-codes", 3, (404, 503)),
    ),
]
STEERED = {"x-envoy-retriable-header-names": "x-other, x-envoy-overloaded", "x-envoy-retriable-status-codes": "418,odd"}
STEERED |= {"x-envoy-retry-on": "retriable-headers", "x-envoy-max-retries": "3"}


def steered(name, istio, envoy):
    """A route whose own headers say what is retried."""
    name, ours, theirs = retries(name, istio, envoy)
    set_ = {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ours["headers"] = {"request": {"set": STEERED}}
    theirs["request_headers_to_add"] = [{"header": {"key": k, "value": v}, **set_} for k, v in STEERED.items()]
    return name, ours, theirs


OWN = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"}


def steered_share(name, set_=None, add=None, remove=()):
    """A route one of whose destinations says what is retried; the other one gets nothing."""
    own = [{"header": {"key": k, "value": v}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"} for k, v in OWN.items()]
    edits = {"set": set_ or {}, "add": add or {}, "remove": list(remove)}
    shares = [{**destination()[0], "weight": 100, "headers": {"request": {"set": OWN}}}]
    name, ours, theirs = retries(name, None, retry_policy(), target=shares + [{**destination("v2")[0], "weight": 0}])
    ours["headers"] = {"request": edits}
    del theirs["route"]["cluster"]
    theirs["route"]["weighted_clusters"] = {"clusters": [{"name": "v1", "weight": 100, "request_headers_to_add": own}]}
    theirs["request_headers_to_add"] = [
        {"header": {"key": k, "value": v}, "append_action": action}
        for entries, action in ((set_, "OVERWRITE_IF_EXISTS_OR_ADD"), (add, "APPEND_IF_EXISTS_OR_ADD"))
        for k, v in (entries or {}).items()
    ]
    theirs["request_headers_to_remove"] = list(remove)
    return name, ours, theirs


RETRIES += [steered("steered", None, retry_policy()), steered("steered-never", {"attempts": 0}, None)]
RETRIES += [
    steered_share("steered-share"),
    steered_share("steered-share-set", set_={"x-envoy-max-retries": "1"}),
    steered_share("steered-share-add", add={"x-envoy-retry-on": "retriable-4xx"}),
    steered_share("steered-share-add-max", add={"x-envoy-max-retries": "1"}),
    steered_share("steered-share-remove", remove=["x-envoy-retry-on"]),
]
REFUSING = [
    retries("refused-default", None, retry_policy(), cluster="refused", target=REFUSED),
    retries("refused-never", {"attempts": 0}, None, cluster="refused", target=REFUSED),
    retries("refused-5xx", *on("5xx"), cluster="refused", target=REFUSED),
    retries("refused-gateway-error", *on("gateway-error"), cluster="refused", target=REFUSED),
    retries("refused-reset", *on("reset"), cluster="refused", target=REFUSED),
    retries("refused-grpc", *on(GRPC), cluster="refused", target=REFUSED),
]
LIMITED = [
    retries("limit", {"attempts": 0}, None, timeout="0.3s"),
    retries("limit-default", None, retry_policy(), timeout="0.3s"),
    retries(
        "per-try",
        {"attempts": 2, "perTryTimeout": "0.15s", "retryOn": "5xx"},
        retry_policy("5xx", per_try="0.15s"),
    ),
    retries(
        "per-try-gateway-error",
        {"attempts": 2, "perTryTimeout": "0.15s", "retryOn": "gateway-error"},
        retry_policy("gateway-error", per_try="0.15s"),
    ),
    retries(
        "per-try-default",
        {"attempts": 2, "perTryTimeout": "0.15s"},
        retry_policy(per_try="0.15s"),
    ),
    retries(
        "both-limits",
        {"attempts": 5, "perTryTimeout": "0.15s", "retryOn": "5xx"},
        retry_policy("5xx", 5, per_try="0.15s"),
        timeout="0.4s",
    ),
]

MILLION = 1_000_000
FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"


def share(percent):
    return {"numerator": int(percent * 10_000), "denominator": "MILLION"}


def fault(name, delay=None, delay_percent=100, abort=None, abort_percent=100, retry=None, timeout=None, **where):
    """`delay` is a duration, `abort` a pair of Istio's and Envoy's abort."""
    istio, envoy = {}, {"@type": FAULT}
    if delay:
        istio["delay"] = {"fixedDelay": delay, "percentage": {"value": delay_percent}}
        envoy["delay"] = {"fixed_delay": delay, "percentage": share(delay_percent)}
    if abort:
        ours, theirs = abort
        istio["abort"] = {**ours, "percentage": {"value": abort_percent}}
        envoy["abort"] = {**theirs, "percentage": share(abort_percent)}
    name, ours, theirs = retries(name, *(retry or (None, retry_policy())), timeout=timeout, **where)
    ours["fault"] = istio
    theirs["typed_per_filter_config"] = {"envoy.filters.http.fault": envoy}
    return name, ours, theirs


def status(code):
    return {"httpStatus": code}, {"http_status": code}


FAULTS = [
    fault("abort-503", abort=status(503)),
    fault("abort-418", abort=status(418)),
    fault("abort-200", abort=status(200)),
    fault("abort-grpc", abort=({"grpcStatus": "UNAVAILABLE"}, {"grpc_status": 14})),
    fault("abort-never", abort=status(503), abort_percent=0),
    fault("abort-retried", abort=status(503), retry=on("5xx")),
    fault("delay", delay="0.2s"),
    fault("delay-never", delay="0.2s", delay_percent=0),
    fault("delay-abort", delay="0.2s", abort=status(500)),
    fault("delay-limit", delay="0.4s", timeout="0.2s"),
    fault("abort-nowhere", abort=status(418), **NOWHERE),
    fault("delay-nowhere", delay="0.2s", **NOWHERE),
]

CORS = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"


def cors(name, istio, envoy, action=None):
    envoy = {"@type": CORS, "filter_enabled": {"default_value": {"numerator": 100}}, **envoy}
    ours, theirs = action or ({"route": destination()}, to())
    return (
        name,
        {**ours, "corsPolicy": istio},
        {**theirs, "typed_per_filter_config": {"envoy.filters.http.cors": envoy}},
    )


ORIGINS = {"allowOrigins": [{"exact": "https://a.test"}, {"prefix": "https://b."}, {"regex": "https://c[0-9]\\.test"}]}
ORIGINS_ENVOY = {
    "allow_origin_string_match": [
        {"exact": "https://a.test"},
        {"prefix": "https://b."},
        {"safe_regex": {"regex": "https://c[0-9]\\.test"}},
    ],
    "forward_not_matching_preflights": True,
}
CROSS_ORIGIN = [
    cors(
        "cors-all",
        {
            **ORIGINS,
            "allowMethods": ["GET", "PUT"],
            "allowHeaders": ["x-one", "x-two"],
            "exposeHeaders": ["x-upstream", "x-three"],
            "maxAge": "24h",
            "allowCredentials": True,
        },
        {
            **ORIGINS_ENVOY,
            "allow_methods": "GET,PUT",
            "allow_headers": "x-one,x-two",
            "expose_headers": "x-upstream,x-three",
            "max_age": "86400",
            "allow_credentials": True,
        },
    ),
    cors("cors-bare", ORIGINS, ORIGINS_ENVOY),
    cors("cors-any", {"allowOrigins": [{"exact": "*"}]}, {**ORIGINS_ENVOY, "allow_origin_string_match": [{"exact": "*"}]}),
    cors(
        "cors-ignore",
        {**ORIGINS, "unmatchedPreflights": "IGNORE"},
        {**ORIGINS_ENVOY, "forward_not_matching_preflights": False},
    ),
    cors("cors-no-credentials", {**ORIGINS, "allowCredentials": False}, {**ORIGINS_ENVOY, "allow_credentials": False}),
    cors("cors-nowhere", ORIGINS, ORIGINS_ENVOY, ({"route": MISSING}, to("missing"))),
    cors(
        "cors-direct",
        ORIGINS,
        ORIGINS_ENVOY,
        ({"directResponse": {"status": 200, "body": {"string": "hi"}}}, {"direct_response": {"status": 200, "body": {"inline_string": "hi"}}}),
    ),
]


CROSS_ORIGIN.append(
    cors("cors-redirect", ORIGINS, ORIGINS_ENVOY, ({"redirect": {"uri": "/new"}}, {"redirect": {"path_redirect": "/new"}}))
)


def mirrored(name, istio, *clusters):
    policies = [
        {
            "cluster": cluster,
            "runtime_fraction": {"default_value": share(percent)},
            "disable_shadow_host_suffix_append": True,
            "trace_sampled": False,
        }
        for cluster, percent in clusters
    ]
    return (
        name,
        {"route": destination(), **istio},
        to(request_mirror_policies=policies),
    )


def target(subset):
    return destination(subset)[0]["destination"]


MIRRORS = [
    mirrored("mirror", {"mirror": target("v2")}, ("v2", 100)),
    mirrored("mirror-none", {"mirror": target("v2"), "mirrorPercentage": {"value": 0}}),
    mirrored("mirror-missing", {"mirror": {"host": "missing.internal"}}, ("missing", 100)),
    mirrored(
        "mirrors",
        {"mirrors": [{"destination": target("v2")}, {"destination": target("v3"), "percentage": {"value": 100}}]},
        ("v2", 100),
        ("v3", 100),
    ),
]


def hosts():
    """Per virtual host: its name, its domain and its routes."""
    yield "retry", "retry.test", [*RETRIES, *REFUSING, *LIMITED]
    yield "fault", "fault.test", FAULTS
    yield "cors", "cors.test", CROSS_ORIGIN
    yield "mirror", "mirror.test", MIRRORS
