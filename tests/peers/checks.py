"""The action CUSTOM: what a service that decides is shown, and what becomes of what it says."""

import contextlib
import json
import socket
import threading

from documents import address, document
from wire import Reader, ask, by_name, split_head

HOST = "checked.test"
PROVIDER = {
    "pathPrefix": "/check",
    "timeout": "1s",
    "includeRequestHeadersInCheck": ["x-shown", "x-all-*"],
    "includeAdditionalHeadersInCheck": {"x-from": "gate"},
    "headersToUpstreamOnAllow": ["x-user", "x-role*"],
    "headersToDownstreamOnAllow": ["x-told"],
}
# What the service answers, by path.
ANSWERS = {
    "/yes": "200 OK\r\nx-user: ann\r\nx-other: 1\r\nx-told: a\r\nx-told: b\r\ncontent-length: 2\r\n\r\nok",
    "/last": "200 OK\r\nx-user: ann\r\nx-user: eve\r\ncontent-length: 0\r\n\r\n",
    "/removed": "200 OK\r\nx-envoy-auth-headers-to-remove: x-secret, x-gone\r\ncontent-length: 0\r\n\r\n",
    "/no": "403 Forbidden\r\nx-why: a\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nno",
    "/login": "302 Found\r\nlocation: http://login.test/\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\nlook",
    "/unauthorized": "401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
    "/teapot": "418 Teapot\r\ncontent-length: 0\r\n\r\n",
    "/created": "201 Created\r\nx-user: ann\r\ncontent-length: 0\r\n\r\n",
    "/broken": "500 Oops\r\ncontent-length: 4\r\n\r\noops",
    "/busy": "503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    "/garbage": None,
}
LINES = [
    "x-shown: 1",
    "x-all-2: 2",
    "x-hidden: 3",
    "x-user: root",
    "X-Secret: s",
    "x-gone: g",
    "authorization: Basic x",
    "cookie: c=1",
]


def request(start, *lines):
    return "\r\n".join([f"{start} HTTP/1.1", f"Host: {HOST}", *lines, "", ""])


REQUESTS = [
    *((path, request(f"GET {path}?q=1", *LINES)) for path in ANSWERS),
    ("normal form", request("GET /a/%2e%2e/%79es")),
    ("body", request("POST /yes", "content-length: 2") + "hi"),
    ("two lines", request("GET /yes", "x-shown: 1", "x-shown: 2")),
    ("grpc", request("POST /no", "content-type: application/grpc", "content-length: 0")),
]
# Of the moment, or of one proxy alone by choice.
UNCOMPARED = {
    "connection",
    "date",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-upstream-service-time",
    "x-forwarded-for",
    "x-request-id",
}


class Seeing:
    """A server that keeps the heads it gets."""

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            reader = Reader(connection)
            while head := reader.until(b"\r\n\r\n"):
                line, headers = split_head(head)
                headers = by_name(headers)
                reader.exactly(int(headers.get("content-length", ["0"])[0]))
                self.heads.append((line, headers))
                connection.sendall(self.answer(line).encode())

    def take(self):
        taken, self.heads = self.heads, []
        return taken


def judge(line):
    path = line.split(" ")[1].split("?")[0]
    answer = ANSWERS.get(path.removeprefix("/check"), ANSWERS["/yes"])
    return f"HTTP/1.1 {answer}" if answer else "garbage\r\n\r\n"


def istio_documents(listen, service, upstream, provider, protocol="HTTP"):
    """`provider` is an extension provider without its name, whose service speaks `protocol`."""

    def entry(name, host, port, protocol="HTTP"):
        spec = {"hosts": [host], "resolution": "STATIC"}
        spec["ports"] = [{"number": 80, "name": "http", "protocol": protocol}]
        spec["endpoints"] = [{"address": "127.0.0.1", "ports": {"http": port}}]
        return document("ServiceEntry", name, spec)

    settings = {"role": "gateway", "extensionProviders": [{"name": "judge", **provider}]}
    server = {"port": {"number": listen, "name": "http", "protocol": "HTTP"}, "bind": "127.0.0.1", "hosts": ["*"]}
    policy = {"action": "CUSTOM", "provider": {"name": "judge"}, "rules": [{"to": [{"operation": {"paths": ["*"]}}]}]}
    route = {"route": [{"destination": {"host": "behind.internal"}}]}
    documents = [
        document("ProxySettings", "proxy", settings, "ringroad.dev/v1alpha1"),
        document("Gateway", "gate", {"servers": [server]}),
        document("VirtualService", "all", {"hosts": ["*"], "gateways": ["gate"], "http": [route]}),
        document("AuthorizationPolicy", "asked", policy, "security.istio.io/v1"),
        entry("judge", "judge.internal", service, protocol),
        entry("behind", "behind.internal", upstream),
    ]
    return "\n---\n".join(map(json.dumps, documents))


def matchers(names):
    def matcher(name):
        return {"prefix": name[:-1]} if name.endswith("*") else {"exact": name}

    return {"patterns": [{**matcher(name), "ignore_case": True} for name in names]}


def http_check():
    """What Istio tells Envoy of the provider."""
    added = PROVIDER["includeAdditionalHeadersInCheck"].items()
    return {
        "http_service": {
            "server_uri": {"uri": "http://judge.internal", "cluster": "judge", "timeout": "1s"},
            "path_prefix": PROVIDER["pathPrefix"],
            "authorization_request": {
                "headers_to_add": [{"key": key, "value": value} for key, value in added],
            },
            "authorization_response": {
                "allowed_upstream_headers": matchers(PROVIDER["headersToUpstreamOnAllow"]),
                "allowed_client_headers_on_success": matchers(PROVIDER["headersToDownstreamOnAllow"]),
            },
        },
        "allowed_headers": matchers(PROVIDER["includeRequestHeadersInCheck"]),
    }


def envoy_bootstrap(listen, service, upstream, check, service_options=None):
    """What Istio tells Envoy of such a check, but for the policy that says when to ask: always."""
    kinds = "type.googleapis.com/envoy.extensions.filters"
    check = {"@type": f"{kinds}.http.ext_authz.v3.ExtAuthz", "transport_api_version": "V3", **check}
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gate",
        "server_name": "istio-envoy",
        "use_remote_address": True,
        "normalize_path": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": check},
            {"name": "router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}},
        ],
    }

    def cluster(name, port, options=None):
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
        assignment = {"cluster_name": name, "endpoints": endpoints}
        return {"name": name, "type": "STATIC", "load_assignment": assignment, **(options or {})}

    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listeners = [{"name": "gate", "address": address(listen), "filter_chains": [chain]}]
    clusters = [cluster("judge", service, service_options), cluster("behind", upstream)]
    return json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}})


def told(heads):
    """Start lines and headers, without what is of the moment."""

    def headers(known):
        kept = {name.lower(): values for name, values in known.items() if name.lower() not in UNCOMPARED}
        return sorted((name, ",".join(values)) for name, values in kept.items())

    return [(line.split(" HTTP/")[0], headers(known)) for line, known in heads]


def run(binary, folder, start, stack, free_port, envoy):
    """Each case with what was observed at either proxy."""
    service = Seeing(judge)
    provider = {"envoyExtAuthzHttp": {"service": "judge.internal", "port": 80, **PROVIDER}}

    def documents(listen, upstream):
        return istio_documents(listen, service.port, upstream, provider)

    def bootstrap(listen, upstream):
        return envoy_bootstrap(listen, service.port, upstream, http_check())

    behind = Seeing(lambda _: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup")
    ports = start_both("checks", binary, folder, start, stack, free_port, envoy, documents, bootstrap, behind)
    yield from observe("check", REQUESTS, ports, behind, lambda: told(service.take()))


def start_both(name, binary, folder, start, stack, free_port, envoy, documents, bootstrap, behind):
    """Starts either proxy; their ports."""
    ports = free_port(), free_port()
    config = folder / name
    config.mkdir()
    (config / "all.yaml").write_text(documents(ports[0], behind.port))
    (folder / f"{name}-envoy.yaml").write_text(bootstrap(ports[1], behind.port))
    admin = f"127.0.0.1:{free_port()}"
    commands = {
        "ringroad": [binary, "run", "--config", str(config), "--workers", "1", "--admin", admin],
        "envoy": [envoy, "-c", str(folder / f"{name}-envoy.yaml"), "--concurrency", "1"],
    }
    commands["envoy"] += ["--disable-hot-restart", "--log-level", "error"]
    for (kind, command), port in zip(commands.items(), ports):
        start(stack, folder / f"{name}-{kind}", command, port)
    return ports


def observe(what, requests, ports, behind, take_shown):
    """Each request with what comes of it at either proxy."""
    for name, sent in requests:
        pair = []
        for port in ports:
            answer = ask(port, sent.encode())
            names = {key.lower(): value for key, value in answer.headers.items()}
            pair.append(
                {
                    "status": answer.status,
                    "body": answer.body,
                    "headers": sorted((key, str(value)) for key, value in names.items() if key not in UNCOMPARED),
                    "shown to the service": take_shown(),
                    "seen by the upstream": told(behind.take()),
                }
            )
        yield f"{what} {name}", *pair
