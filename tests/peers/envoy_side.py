"""What Envoy gets: the configuration that Istio would give it for the same documents."""

import json

import routes
import services
from documents import address


# Envoy's keys for the fields of Istio's access log that the comparison looks at.
LOGGED = {
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "route_name": "%ROUTE_NAME%",
}


def envoy_bootstrap(listen, admin, ports, access_log):
    """The bootstrap of a gateway; its requests are logged to `access_log`."""
    virtual_hosts = [
        {"name": name, "domains": [domain], "include_request_attempt_count": True, "routes": table}
        for name, domain, table in [
            *((name, domain, table) for name, domain, _, table in routes.hosts()),
            *services.envoy_virtual_hosts(),
        ]
    ]
    kinds = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gate",
        "server_name": "istio-envoy",
        "use_remote_address": True,
        "normalize_path": True,
        "generate_request_id": True,
        "forward_client_cert_details": "SANITIZE_SET",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_protocol_options": {"accept_http_10": True},
        "route_config": {
            "name": "gate",
            "virtual_hosts": virtual_hosts,
            "validate_clusters": False,
            "ignore_port_in_host_matching": True,
        },
        "http_filters": [
            {
                "name": f"envoy.filters.http.{name}",
                "typed_config": {"@type": f"{kinds}.http.{name}.v3.{message}"},
            }
            for name, message in [("fault", "HTTPFault"), ("cors", "Cors"), ("router", "Router")]
        ],
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"json_format": LOGGED},
                },
            }
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return json.dumps(
        {
            "admin": {"address": address(admin)},
            "static_resources": {
                "listeners": [{"name": "gate", "address": address(listen), "filter_chains": [chain]}],
                "clusters": [
                    *(cluster(name, ports.get(name)) for name in ("v1", "v2", "v3", "refused", "empty")),
                    *services.envoy_clusters(ports),
                ],
            }
        },
        indent=1,
    )


def cluster(name, port):
    endpoints = [{"endpoint": {"address": address(port)}}] if port else []
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **services.thresholds(),
    }
