"""The pieces that both configurations are put together from."""

HOST = "echo.internal"


def destination(subset="v1", host=HOST):
    return [{"destination": {"host": host, "subset": subset}}]


# What Istio gives every route that says nothing about retries.
DEFAULT_CONDITIONS = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/"
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}


def retry_policy(conditions=DEFAULT_CONDITIONS, attempts=2, codes=(), per_try=None):
    """Envoy's form of `retries`."""
    policy = {
        "retry_on": conditions,
        "num_retries": attempts,
        "retry_host_predicate": [PREVIOUS_HOSTS],
        "host_selection_retry_max_attempts": "5",
    }
    if codes:
        policy["retriable_status_codes"] = list(codes)
    if per_try:
        policy["per_try_timeout"] = per_try
    return policy


def to(cluster="v1", **fields):
    """Envoy's action for a route to a cluster, with what Istio says where the route does not."""
    action = {"cluster": cluster, "timeout": "0s", "retry_policy": retry_policy(), **fields}
    # So that a caller's grpc-timeout counts, up to the limit of the route.
    action["max_grpc_timeout"] = action["timeout"]
    return {"route": {name: value for name, value in action.items() if value is not None}}


def regex(text):
    return {"safe_regex": {"regex": text}}


def header(name, **match):
    return {"name": name, **match}


def text(**match):
    return {"string_match": match}


def document(kind, name, spec, version="networking.istio.io/v1"):
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
