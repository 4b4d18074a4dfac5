"""The service behind both proxies. It tells what it received; its path says how it behaves."""

import hashlib
import json
import socket
import struct
import threading

from wire import Reader, by_name, split_head

SLOW_S = 0.4
PAUSE_S = 0.05

# Answers that are given as they stand, by the end of the path.
CANNED = {
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not-modified": b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n',
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "hop-by-hop": b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
    b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
    "own-names": b"HTTP/1.1 200 OK\r\nServer: mine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    b"X-Envoy-Upstream-Service-Time: 99\r\nX-Envoy-Other: 1\r\nX-Request-Id: upstream\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "cookies": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nVary: x\r\nVary: y\r\n"
    b"Content-Length: 2\r\n\r\nok",
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "teapot": b"HTTP/1.1 418 Short And Stout\r\nContent-Length: 3\r\n\r\ntea",
}
# What a try of a request may get; `g14` is a gRPC status in the head.
STATUSES = {
    f"{status}": b"HTTP/1.1 %d Tried\r\nContent-Length: 5\r\n\r\ntried" % status
    for status in (404, 409, 418, 425, 429, 500, 501, 502, 503, 504)
}
STATUSES |= {
    f"g{status}": b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: %d\r\n"
    b"Content-Length: 0\r\n\r\n" % status
    for status in (0, 1, 2, 4, 8, 13, 14)
}
STATUSES["g14-limited"] = STATUSES["g14"].replace(b"grpc-status", b"x-envoy-ratelimited: true\r\ngrpc-status")
STATUSES["g14-404"] = STATUSES["g14"].replace(b"200 OK", b"404 Tried")
STATUSES["429-limited"] = b"HTTP/1.1 429 Tried\r\nx-envoy-ratelimited: true\r\nContent-Length: 0\r\n\r\n"
STATUSES["503-overloaded"] = b"HTTP/1.1 503 Tried\r\nx-envoy-overloaded: true\r\nContent-Length: 0\r\n\r\n"
# The same, and the connection ends behind them. At a bar there is a pause.
CLOSING = {
    "close": b"",
    "until-close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end",
    "http10": b"HTTP/1.0 200 OK\r\n\r\nold",
    "cut-short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    "chunks-cut-short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n|xyz\r\n",
    "head-cut-short": b"HTTP/1.1 200 OK\r\nContent-Le",
    "garbage": b"this is no HTTP\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
}


class Upstream:
    """Listens on a free port until the process ends."""

    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        self.seen = []
        self.stopping = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def take_seen(self):
        """What has been received since the last call."""
        with self.lock:
            seen, self.seen = self.seen, []
        return seen

    def count_seen(self):
        with self.lock:
            return len(self.seen)

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                reader = Reader(connection)
                while self.exchange(connection, reader):
                    pass
            except (OSError, ValueError):
                pass

    def exchange(self, connection, reader):
        """One request; false when the connection ends behind it."""
        head = reader.until(b"\r\n\r\n")
        if head is None:
            return False
        first, pairs = split_head(head)
        method, path, _ = first.split(" ", 2)
        headers = by_name(pairs)
        told = {"upstream": self.name, "method": method, "path": path, "headers": headers, "length": None}
        told["connection"] = connection.getpeername()
        with self.lock:
            before = sum(path == other["path"] for other in self.seen)
            self.seen.append(told)
        behaviour = path.split("?")[0].rsplit("/", 1)[-1]
        if behaviour.startswith("try-"):
            answers = behaviour.removeprefix("try-").split(",")
            behaviour = answers[min(before, len(answers) - 1)]
        if behaviour.startswith("bad-"):
            behaviour = behaviour.removeprefix("bad-") if self.name == "bad" else ""
        if behaviour == "slow":
            self.stopping.wait(SLOW_S)
        if behaviour == "stall":
            self.stopping.wait(5)
            return False
        if behaviour == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        body = self.read_body(connection, reader, headers)
        told["length"] = len(body)
        if behaviour in STATUSES:
            connection.sendall(STATUSES[behaviour])
            return True
        if behaviour in CANNED or behaviour in CLOSING:
            first, *later = (CANNED.get(behaviour, b"") or CLOSING[behaviour]).split(b"|")
            connection.sendall(first)
            for piece in later:
                self.stopping.wait(PAUSE_S)
                connection.sendall(piece)
            return behaviour in CANNED
        connection.sendall(self.report(method, path, headers, body))
        return True

    @staticmethod
    def read_body(connection, reader, headers):
        if headers.get("expect") == ["100-continue"]:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", []):
            return reader.chunked() or b""
        return reader.exactly(int(headers.get("content-length", ["0"])[0]))

    def report(self, method, path, headers, body):
        """What came, or with `/gzip` a compressed body that no one on the way may touch."""
        extra = b""
        if path.endswith("/gzip"):
            import gzip

            content = gzip.compress(b"compressed " * 1000, mtime=0)
            extra = b"Content-Encoding: gzip\r\n"
        else:
            told = {
                "upstream": self.name,
                "method": method,
                "path": path,
                "length": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
            }
            content = json.dumps(told).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + extra
        head += b"X-Upstream: %s\r\nContent-Length: %d\r\n\r\n" % (self.name.encode(), len(content))
        return head + (b"" if method == "HEAD" else content)
