"""HTTP/2, gRPC and WebSocket between clients and servers that others wrote, through Ringroad.

    protocols.py BINARY

Every call has to end as it would without a proxy in between.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import httpx
from proxies import free_port, start
from upstream import Upstream
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import serve as serve_websocket

from foreign import expect

PATIENCE_S = 20
MIB = 1 << 20
NODE = pathlib.Path(__file__).with_name("node_http2.js")
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate}
spec:
  servers:
  - {port: {number: %d, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ["*"]}
---
apiVersion: ringroad.dev/v1alpha1
kind: ProxySettings
metadata: {name: peers}
spec: {role: gateway}
"""
SERVICE = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %(name)s}
spec:
  hosts: [%(name)s.test]
  resolution: STATIC
  ports: [{number: 80, name: port, protocol: %(protocol)s}]
  endpoints: [{address: 127.0.0.1, ports: {port: %(port)d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %(name)s}
spec:
  hosts: [%(name)s.test]
  gateways: [gate]
  http:
  - route: [{destination: {host: %(name)s.test, port: {number: 80}}}]
"""


class Calls(grpc.GenericRpcHandler):
    """A server of gRPC without generated code: messages are bytes."""

    def __init__(self):
        self.cancelled = threading.Event()

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "HangStream": grpc.unary_stream_rpc_method_handler(self.hang_stream),
        }
        return kinds.get(details.method.rsplit("/", 1)[-1])

    def unary(self, message, context):
        told = dict(context.invocation_metadata())
        if code := told.get("x-code"):
            context.abort(getattr(grpc.StatusCode, code), "because: ünï%code")
        context.send_initial_metadata([("x-first", told.get("x-tell", ""))])
        context.set_trailing_metadata([("x-last-bin", bytes(range(256)))])
        return message

    def upload(self, messages, _):
        return json.dumps([len(message) for message in messages]).encode()

    def download(self, message, _):
        for number in range(int(message)):
            yield b"%d" % number

    def chat(self, messages, _):
        for message in messages:
            yield message

    def hang(self, _, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(PATIENCE_S):
            self.cancelled.set()
        return b""

    def hang_stream(self, message, context):
        yield b"begun"
        self.hang(message, context)


def grpc_server(stack):
    calls = Calls()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=[calls], options=UNLIMITED)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(0).wait())
    return calls, port


def websocket_server(stack):
    def echo(connection):
        for message in connection:
            if message == "close":
                connection.close(4001, "as asked")
                return
            connection.send(message)

    server = serve_websocket(echo, "127.0.0.1", 0, max_size=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return server.socket.getsockname()[1]


class Grpc:
    """A client's calls, each named by its method."""

    def __init__(self, port, calls, host="grpc.test"):
        options = [*UNLIMITED, ("grpc.default_authority", host)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.calls = calls

    def call(self, method, shape="unary_unary"):
        return getattr(self.channel, shape)(f"/peers.Calls/{method}")

    def unary(self):
        metadata = [("x-tell", "back")]
        reply, call = self.call("Unary").with_call(b"hello", metadata=metadata, timeout=PATIENCE_S)
        expect(b"hello", reply)
        expect("back", dict(call.initial_metadata())["x-first"])
        expect(bytes(range(256)), dict(call.trailing_metadata())["x-last-bin"])
        expect(grpc.StatusCode.OK, call.code())

    def client_stream(self):
        sizes = [(at * 997) % 50_000 for at in range(200)]
        reply = self.call("Upload", "stream_unary")((bytes(size) for size in sizes), timeout=PATIENCE_S)
        expect(sizes, json.loads(reply))

    def server_stream(self):
        replies = self.call("Download", "unary_stream")(b"2000", timeout=PATIENCE_S)
        expect([b"%d" % at for at in range(2000)], list(replies))

    def bidirectional(self):
        turns = iter(range(100))
        answered = threading.Semaphore(1)

        def messages():
            for turn in turns:
                answered.acquire()
                yield b"%d" % turn

        got = []
        for reply in self.call("Chat", "stream_stream")(messages(), timeout=PATIENCE_S):
            got.append(reply)
            answered.release()
        expect([b"%d" % at for at in range(100)], got)

    def big_message(self):
        content = random.Random(8).randbytes(16 * MIB)
        reply = self.call("Unary")(content, timeout=PATIENCE_S)
        expect(True, reply == content)

    def statuses(self):
        for code in ("NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "DATA_LOSS"):
            try:
                self.call("Unary")(b"", metadata=[("x-code", code)], timeout=PATIENCE_S)
            except grpc.RpcError as error:
                expect((code, "because: ünï%code"), (error.code().name, error.details()))
            else:
                raise AssertionError(f"{code} was lost")

    def unknown_method(self):
        expect("UNIMPLEMENTED", self.failure(lambda: self.call("Nothing")(b"", timeout=PATIENCE_S)))

    def deadline(self):
        self.calls.cancelled.clear()
        began = time.monotonic()
        expect("DEADLINE_EXCEEDED", self.failure(lambda: self.call("Hang")(b"", timeout=0.5)))
        expect(True, time.monotonic() - began < 5)
        expect(True, self.calls.cancelled.wait(5))

    def cancel_unary(self):
        self.calls.cancelled.clear()
        future = self.call("Hang").future(b"")
        time.sleep(0.2)
        future.cancel()
        expect(grpc.StatusCode.CANCELLED, future.code())
        expect(True, self.calls.cancelled.wait(5))

    def cancel_stream(self):
        self.calls.cancelled.clear()
        replies = self.call("HangStream", "unary_stream")(b"")
        expect(b"begun", next(replies))
        replies.cancel()
        expect("CANCELLED", self.failure(lambda: next(replies)))
        expect(True, self.calls.cancelled.wait(5))

    def many_at_once(self):
        futures = [self.call("Unary").future(b"%d" % at, timeout=PATIENCE_S) for at in range(300)]
        expect([b"%d" % at for at in range(300)], [future.result() for future in futures])

    @staticmethod
    def failure(act):
        try:
            act()
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def grpc_without_server(port):
    code = Grpc.failure(lambda: Grpc(port, None, "gone.test").call("Unary")(b"", timeout=PATIENCE_S))
    expect("UNAVAILABLE", code)
    code = Grpc.failure(lambda: Grpc(port, None, "nowhere.test").call("Unary")(b"", timeout=PATIENCE_S))
    expect("UNIMPLEMENTED", code)


def websocket(port):
    with socket.create_connection(("127.0.0.1", port)) as raw:
        with connect_websocket("ws://websocket.test/", sock=raw, max_size=None) as connection:
            big = random.Random(9).randbytes(MIB)
            for message in ("text ünï", b"\x00bytes", big):
                connection.send(message)
                expect(True, connection.recv(PATIENCE_S) == message)
            connection.send(iter(["in ", "pieces"]))
            expect("in pieces", connection.recv(PATIENCE_S))
            expect(True, connection.ping().wait(PATIENCE_S))
            connection.send("close")
            try:
                connection.recv(PATIENCE_S)
            except ConnectionClosed as closed:
                expect((4001, "as asked"), (closed.rcvd.code, closed.rcvd.reason))
            else:
                raise AssertionError("the close was lost")


def httpx_http2(port, host):
    async def talk():
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            http1=False, http2=True, timeout=PATIENCE_S, limits=limits, trust_env=False, headers={"host": host}
        ) as client:
            url = f"http://127.0.0.1:{port}"
            answers = await asyncio.gather(*(client.get(f"{url}/{at}") for at in range(100)))
            for answer in answers:
                expect((200, "HTTP/2"), (answer.status_code, answer.http_version))
            content = random.Random(3).randbytes(MIB)
            answer = await client.post(f"{url}/upload", content=content)
            expect(len(content), answer.json()["length"])

    asyncio.run(talk())


def program(*command, sends=None):
    done = subprocess.run(command, input=sends, capture_output=True, timeout=PATIENCE_S + 10)
    if done.returncode:
        raise AssertionError((done.stderr or done.stdout).decode(errors="replace")[-500:])
    return done.stdout.decode()


def curl(port, host, option, version):
    url = f"http://{host}:{port}/a"
    told = ["-w", "\n%{http_code} %{http_version}", "--resolve", f"{host}:{port}:127.0.0.1"]
    options = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE_S), option, *told]
    expect(f"200 {version}", program(*options, url).splitlines()[-1])
    content = random.Random(4).randbytes(MIB)
    lines = program(*options, "--data-binary", "@-", url, sends=content).splitlines()
    expect((f"200 {version}", MIB), (lines[-1], json.loads(lines[0])["length"]))


def nghttp(port, host):
    told = program("nghttp", "-v", "-H", f":authority: {host}", f"http://127.0.0.1:{port}/a")
    expect(True, ":status: 200" in told)


def h2load(port, host):
    told = program("h2load", "-n2000", "-c4", "-m20", "-H", f":authority: {host}", f"http://127.0.0.1:{port}/a")
    expect(True, "2000 succeeded, 0 failed, 0 errored" in told)


def node(port, host):
    expect("all well", program("node", str(NODE), "client", str(port), host).strip())


def node_server(stack, folder):
    port = free_port()
    start(stack, folder / "node", ["node", str(NODE), "server", str(port)], port)
    return port


def scenes(binary, stack, folder, has_node):
    """Starts everything; the name of each scene and what plays it."""
    plain = Upstream("v1")
    stack.callback(plain.stopping.set)
    calls, grpc_port = grpc_server(stack)
    gone = stack.enter_context(socket.socket())
    gone.bind(("127.0.0.1", 0))
    services = {
        "plain": ("HTTP", plain.port),
        "grpc": ("GRPC", grpc_port),
        "gone": ("GRPC", gone.getsockname()[1]),
        "websocket": ("HTTP", websocket_server(stack)),
    }
    if has_node:
        services["node"] = ("HTTP2", node_server(stack, folder))
    port = free_port()
    documents = GATEWAY % port
    for name, (protocol, to) in services.items():
        documents += SERVICE % {"name": name, "protocol": protocol, "port": to}
    config = folder / "config"
    config.mkdir()
    (config / "all.yaml").write_text(documents)
    admin = f"127.0.0.1:{free_port()}"
    command = [binary, "run", "--config", str(config), "--workers", "2", "--admin", admin]
    start(stack, folder / "ringroad", command, port)

    client = Grpc(port, calls)
    stack.callback(client.channel.close)
    for name in (
        "unary client_stream server_stream bidirectional big_message statuses unknown_method deadline "
        "cancel_unary cancel_stream many_at_once"
    ).split():
        yield f"grpcio {name}", getattr(client, name)
    yield "grpcio without a server", lambda: grpc_without_server(port)
    yield "websockets", lambda: websocket(port)
    hosts = ["plain.test"] + (["node.test"] if has_node else [])
    for host in hosts:
        yield f"httpx http2 to {host}", lambda: httpx_http2(port, host)
        yield f"curl --http2-prior-knowledge to {host}", lambda: curl(port, host, "--http2-prior-knowledge", "2")
        # Without TLS this asks for an upgrade, which nobody has to grant.
        yield f"curl --http2 to {host}", lambda: curl(port, host, "--http2", "1.1")
        yield f"curl --http1.1 to {host}", lambda: curl(port, host, "--http1.1", "1.1")
        yield f"nghttp to {host}", lambda: nghttp(port, host)
        yield f"h2load to {host}", lambda: h2load(port, host)
        if has_node:
            yield f"node http2 to {host}", lambda: node(port, host)


def main(binary):
    passed, failed = 0, 0
    has_node = shutil.which("node") is not None
    if not has_node:
        print("peers: no node on this machine: its HTTP/2 client and server are left out")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, play in scenes(binary, stack, folder, has_node):
            try:
                play()
                passed += 1
            except Exception as error:  # Foreign software has errors of its own.
                failed += 1
                print(f"FAILED {name}\n    {type(error).__name__}: {error}")
    print(f"{passed} passed, {failed} failed with protocols")
    return failed == 0


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
