"""The action CUSTOM by gRPC: what the service is shown, and what becomes of what it says."""

import concurrent.futures

import grpc
from checks import LINES, Seeing, envoy_bootstrap, istio_documents, observe, request, start_both
from protobuf import decode, encode

METHOD = "/envoy.service.auth.v3.Authorization/Check"
# How a header is written, by the names of Envoy's `append_action`.
ACTIONS = {"append": 0, "if-absent": 1, "overwrite": 2, "if-exists": 3}
PERMISSION_DENIED, UNAUTHENTICATED = 7, 16


def header(name, value, appends=None, action=None):
    option = [(1, [(1, name), (2, value)])]
    if appends is not None:
        option.append((2, [(1, int(appends))]))
    if action is not None:
        option.append((3, ACTIONS[action]))
    return option


def allowed(*headers, removed=(), answer=(), query=(), without=()):
    response = [(2, option) for option in headers]
    response += [(5, name) for name in removed]
    response += [(6, option) for option in answer]
    response += [(7, [(1, name), (2, value)]) for name, value in query]
    response += [(8, name) for name in without]
    return [(1, []), (3, response)]


def denied(status, *headers, body="", code=PERMISSION_DENIED):
    response = [(1, [(1, status)])] + [(2, option) for option in headers] + [(3, body)]
    return [(1, [(1, code)]), (2, response)]


# What the service answers, by path.
ANSWERS = {
    "/yes": [(1, [])],
    "/empty": [],
    "/set": allowed(header("x-user", "ann"), header("x-new", "1"), header("X-Capital", "2")),
    "/set-twice": allowed(header("x-user", "ann"), header("x-user", "bob")),
    "/append": allowed(header("x-user", "ann", appends=True), header("x-new", "1", appends=True)),
    "/not-append": allowed(header("x-user", "ann", appends=False), header("x-new", "1", appends=False)),
    "/remove": allowed(removed=["x-secret", "X-Gone", "host", ":path", "x-unknown"]),
    "/set-and-remove": allowed(header("x-secret", "new"), removed=["x-secret"]),
    "/query": allowed(query=[("a", "9"), ("z", "1")]),
    "/query-odd": allowed(query=[("odd", "a&c=d/%41")]),
    "/query-twice": allowed(query=[("z", "1"), ("z", "2")]),
    "/query-removed": allowed(without=["b", "unknown"]),
    "/query-unknown": allowed(without=["unknown"]),
    "/query-both": allowed(query=[("b", "new")], without=["b", "q"]),
    "/query-emptied": allowed(without=["q", "a", "b"]),
    "/answer": allowed(answer=[header("x-up", "2"), header("x-fresh", "3")]),
    "/answer-append": allowed(answer=[header("x-up", "2", appends=True), header("x-fresh", "3", appends=True)]),
    "/answer-set": allowed(answer=[header("x-up", "2", appends=False), header("x-fresh", "3", appends=False)]),
    "/no": [(1, [(1, PERMISSION_DENIED), (2, "because")])],
    "/who": [(1, [(1, UNAUTHENTICATED)])],
    "/no-body": denied(403, header("x-why", "a"), header("set-cookie", "a=1"), header("set-cookie", "b=2"), body="no"),
    "/no-append": denied(401, header("x-why", "a", appends=True), header("x-why", "b", appends=True)),
    "/login": denied(302, header("location", "http://login.test/"), header("content-type", "text/html"), body="look"),
    "/no-status": [(1, [(1, PERMISSION_DENIED)]), (2, [(3, "text")])],
    "/no-but-ok": denied(200, body="fine"),
    "/broken": None,
    "/garbage": b"\xff\xff\xff",
}
for name in ACTIONS:
    both = [header("x-user", "ann", action=name), header("x-new", "1", action=name)]
    ANSWERS[f"/action-{name}"] = allowed(*both)
    ANSWERS[f"/answer-action-{name}"] = allowed(answer=[header("x-up", "2", action=name), header("x-fresh", "3", action=name)])
    ANSWERS[f"/no-action-{name}"] = denied(403, header("x-why", "a", action=name), header("x-why", "b", action=name))

QUERY = "?q=1&a=2&b=3"
REQUESTS = [
    *((path, request(f"GET {path}{QUERY}", *LINES)) for path in ANSWERS),
    ("normal form", request("GET /a/%2e%2e/%79es")),
    ("body", request("POST /yes", "content-length: 2") + "hi"),
    ("two lines", request("GET /append", "x-user: 1", "x-user: 2")),
    ("no query", request("GET /query")),
    ("query of another order", request("GET /query?z=0&y&x=%20+%41&a=1&a=2")),
    ("query nobody changes", request("GET /yes?z=0&&y&x=%20+%41")),
    ("gRPC", request("POST /no-body", "content-type: application/grpc", "content-length: 0")),
]
# Fields of a CheckRequest: names, and messages below. `*` is a map.
PEER = {1: ("address", {1: ("socket", {1: ("protocol",), 2: ("address",)})}), 4: ("principal",), 5: ("certificate",)}
HTTP = {2: ("method",), 3: ("headers", "*"), 4: ("path",), 5: ("host",), 6: ("scheme",), 7: ("query",)}
HTTP |= {8: ("fragment",), 9: ("size",), 10: ("protocol",), 11: ("body",), 12: ("raw body",)}
ATTRIBUTES = {1: ("source", PEER), 2: ("destination", PEER), 4: ("request", {2: ("http", HTTP)})}
# Of the moment, or of one proxy alone by choice, among the headers shown.
UNSHOWN = {"x-request-id", "x-forwarded-for", "x-envoy-external-address", "x-envoy-internal"}


def read(content, fields, prefix=""):
    for number, value in decode(content):
        name, *below = fields.get(number, (None,))
        if name is None:
            continue
        if below == ["*"]:
            key, text = dict(decode(value)).get(1, b"").decode(), dict(decode(value)).get(2, b"").decode()
            if key not in UNSHOWN:
                yield f"{prefix}{name} {key}", text
        elif below:
            yield from read(value, below[0], f"{prefix}{name} ")
        elif value not in (b"", 0):
            yield prefix + name, value if isinstance(value, int) else value.decode(errors="replace")


class Judge(grpc.GenericRpcHandler):
    """Says what stands in `ANSWERS`, and keeps what it was shown."""

    def __init__(self, stack):
        self.shown = []
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[self])
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(lambda: server.stop(0).wait())

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.check) if details.method == METHOD else None

    def check(self, content, context):
        told = dict(read(dict(decode(content))[1], ATTRIBUTES))
        self.shown.append(sorted(told.items()))
        answer = ANSWERS.get(told["request http path"].split("?")[0], ANSWERS["/yes"])
        if answer is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return answer if isinstance(answer, bytes) else encode(answer)

    def take(self):
        taken, self.shown = self.shown, []
        return taken


def run(binary, folder, start, stack, free_port, envoy):
    """Each case with what was observed at either proxy."""
    service = Judge(stack)
    behind = Seeing(lambda _: "HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nup")
    provider = {"envoyExtAuthzGrpc": {"service": "judge.internal", "port": 80, "timeout": "5s"}}
    check = {"grpc_service": {"envoy_grpc": {"cluster_name": "judge"}, "timeout": "5s"}}
    kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": kind, "explicit_http_config": {"http2_protocol_options": {}}}
    options = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}}

    def documents(listen, upstream):
        return istio_documents(listen, service.port, upstream, provider, "GRPC")

    def bootstrap(listen, upstream):
        return envoy_bootstrap(listen, service.port, upstream, check, options)

    ports = start_both("grpc-checks", binary, folder, start, stack, free_port, envoy, documents, bootstrap, behind)
    yield from observe("check by gRPC", REQUESTS, ports, behind, service.take)
