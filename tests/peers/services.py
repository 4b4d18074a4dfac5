"""Services with limits, ejection and several endpoints, once for each side.

Service NAME has the virtual host NAME.test. Its endpoints are upstreams by name.
"""

import dataclasses

from documents import address, document, retry_policy, to

MOST = 2**32 - 1
PANIC_NEVER = {"healthy_panic_threshold": {"value": 0}}


@dataclasses.dataclass
class Service:
    name: str
    endpoints: list
    # DestinationRule's trafficPolicy, and the fields of Envoy's cluster for it.
    istio: dict
    envoy: dict
    # `retries` of the route, and Envoy's policy for it.
    retries: tuple = (None, retry_policy())
    # Envoy's hash policies of the route.
    hashing: list = dataclasses.field(default_factory=list)


def thresholds(**limits):
    """Envoy's circuit breakers; Istio sets no limit where a DestinationRule does not."""
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    every = {**dict.fromkeys(names, MOST), "track_remaining": True, **limits}
    return {"circuit_breakers": {"thresholds": [every]}}


def pool(tcp=None, http=None):
    return {"connectionPool": {"tcp": tcp or {}, "http": http or {}}}


def outlier(istio, panic=None, **envoy):
    """Ejection after failures, judged every 0.2 s, for 1 s the first time."""
    common = {"interval": "0.2s", "baseEjectionTime": "1s"}
    theirs = {
        "interval": "0.2s",
        "base_ejection_time": "1s",
        "enforcing_success_rate": 0,
        "enforcing_consecutive_5xx": 100,
        "enforcing_consecutive_gateway_failure": 0,
        **envoy,
    }
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN"}, "outlierDetection": {**common, **istio}}
    return policy, {"outlier_detection": theirs, "common_lb_config": panic or PANIC_NEVER}


def hashing(name, istio, envoy, balancer=None):
    ring = {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}}
    policy = {"loadBalancer": {"consistentHash": istio}}
    return Service(name, ["v1", "v2", "v3"], policy, balancer or ring, hashing=[envoy])


NEVER = ({"attempts": 0}, None)
AFTER_THREE = {"consecutive5xxErrors": 3, "maxEjectionPercent": 100}
AFTER_THREE_ENVOY = {"consecutive_5xx": 3, "max_ejection_percent": 100}
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

SERVICES = [
    Service(
        "connections",
        ["v1"],
        pool({"maxConnections": 1}, {"http1MaxPendingRequests": 1}),
        thresholds(max_connections=1, max_pending_requests=1),
    ),
    Service("requests", ["v1"], pool(http={"http2MaxRequests": 2}), thresholds(max_requests=2)),
    Service(
        "retrying",
        ["v1"],
        pool(http={"maxRetries": 1}),
        thresholds(max_retries=1),
        ({"attempts": 2, "retryOn": "5xx"}, retry_policy("5xx")),
    ),
    Service(
        "once-each",
        ["v1"],
        pool(http={"maxRequestsPerConnection": 2}),
        {
            "typed_extension_protocol_options": {
                OPTIONS: {
                    "@type": f"type.googleapis.com/{OPTIONS}",
                    "common_http_protocol_options": {"max_requests_per_connection": 2},
                    "explicit_http_config": {"http_protocol_options": {}},
                }
            }
        },
    ),
    Service("ejecting", ["v1", "bad"], *outlier(AFTER_THREE, **AFTER_THREE_ENVOY), NEVER),
    Service(
        "ejecting-gateway",
        ["v1", "bad"],
        *outlier(
            {"consecutiveGatewayErrors": 2, "consecutive5xxErrors": 0, "maxEjectionPercent": 100},
            consecutive_gateway_failure=2,
            enforcing_consecutive_gateway_failure=100,
            consecutive_5xx=0,
            enforcing_consecutive_5xx=0,
            max_ejection_percent=100,
        ),
        NEVER,
    ),
    Service(
        "ejecting-never",
        ["v1", "bad"],
        *outlier(
            {"consecutiveGatewayErrors": 0, "consecutive5xxErrors": 0, "maxEjectionPercent": 100},
            consecutive_gateway_failure=0,
            consecutive_5xx=0,
            enforcing_consecutive_5xx=0,
            max_ejection_percent=100,
        ),
        NEVER,
    ),
    Service(
        "ejecting-watched",
        ["v1", "bad"],
        *outlier(
            {"consecutive5xxErrors": 0, "maxEjectionPercent": 100},
            consecutive_5xx=0,
            enforcing_consecutive_5xx=0,
            max_ejection_percent=100,
        ),
        NEVER,
    ),
    Service("ejecting-little", ["v1", "bad"], *outlier({"consecutive5xxErrors": 3}, consecutive_5xx=3), NEVER),
    Service("ejecting-all", ["bad"], *outlier(AFTER_THREE, **AFTER_THREE_ENVOY), NEVER),
    Service(
        "ejecting-panic",
        ["bad"],
        *outlier(
            {**AFTER_THREE, "minHealthPercent": 50},
            {"healthy_panic_threshold": {"value": 50}},
            **AFTER_THREE_ENVOY,
        ),
        NEVER,
    ),
    Service("ejecting-refused", ["v1", "refused"], *outlier(AFTER_THREE, **AFTER_THREE_ENVOY), NEVER),
    Service(
        "ejecting-split",
        ["v1", "refused"],
        *outlier(
            {
                "splitExternalLocalOriginErrors": True,
                "consecutiveLocalOriginFailures": 2,
                "consecutive5xxErrors": 5,
                "maxEjectionPercent": 100,
            },
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=2,
            enforcing_consecutive_local_origin_failure=100,
            enforcing_local_origin_success_rate=0,
            consecutive_5xx=5,
            max_ejection_percent=100,
        ),
        NEVER,
    ),
    hashing("hash-header", {"httpHeaderName": "x-user"}, {"header": {"header_name": "x-user"}}),
    hashing(
        "hash-maglev",
        {"httpHeaderName": "x-user", "maglev": {"tableSize": 1009}},
        {"header": {"header_name": "x-user"}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1009}},
    ),
    hashing(
        "hash-cookie",
        {"httpCookie": {"name": "user", "ttl": "60s"}},
        {"cookie": {"name": "user", "ttl": "60s"}},
    ),
    hashing(
        "hash-session-cookie",
        {"httpCookie": {"name": "user", "path": "/shop", "ttl": "0s"}},
        {"cookie": {"name": "user", "path": "/shop", "ttl": "0s"}},
    ),
    hashing(
        "hash-given-cookie",
        {"httpCookie": {"name": "user"}},
        {"cookie": {"name": "user"}},
    ),
    hashing("hash-query", {"httpQueryParameterName": "user"}, {"query_parameter": {"name": "user"}}),
    hashing("hash-address", {"useSourceIp": True}, {"connection_properties": {"source_ip": True}}),
    Service("elsewhere", ["v1", "refused"], {"loadBalancer": {"simple": "ROUND_ROBIN"}}, {}),
]


def istio_documents(ports):
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    for service in SERVICES:
        host = f"{service.name}.internal"
        endpoints = [{"address": "127.0.0.1", "ports": {"http": ports[name]}} for name in service.endpoints]
        spec = {"hosts": [host], "ports": [port], "resolution": "STATIC", "endpoints": endpoints}
        yield document("ServiceEntry", service.name, spec)
        yield document("DestinationRule", service.name, {"host": host, "trafficPolicy": service.istio})
        route = {"route": [{"destination": {"host": host}}]}
        if service.retries[0] is not None:
            route["retries"] = service.retries[0]
        spec = {"hosts": [f"{service.name}.test"], "gateways": ["gate"], "http": [route]}
        yield document("VirtualService", service.name, spec)


def envoy_virtual_hosts():
    for service in SERVICES:
        more = {"hash_policy": service.hashing} if service.hashing else {}
        route = {"match": {"prefix": "/"}, **to(service.name, retry_policy=service.retries[1], **more)}
        yield service.name, f"{service.name}.test", [route]


def envoy_clusters(ports):
    for service in SERVICES:
        endpoints = [{"endpoint": {"address": address(ports[name])}} for name in service.endpoints]
        yield {
            "name": service.name,
            "type": "STATIC",
            "connect_timeout": "10s",
            "load_assignment": {"cluster_name": service.name, "endpoints": [{"lb_endpoints": endpoints}]},
            **thresholds(),
            **service.envoy,
        }
