"""HTTP/2, gRPC and WebSocket between clients and servers that others wrote, through Ringroad.

    protocols.py BINARY

Every call has to end as it would without a proxy in between: each is made without one, in clear
text through the proxy, by TLS, and to servers that are reached by TLS.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
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

import aiohttp
import grpc
import httpx
import proxied
from certificates import Certificates
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
  - port: {number: %d, name: https, protocol: HTTPS}
    bind: 127.0.0.1
    hosts: ["*"]
    tls: {mode: SIMPLE, credentialName: gate}
  - port: {number: %d, name: https-mutual, protocol: HTTPS}
    bind: 127.0.0.1
    hosts: ["*"]
    tls: {mode: MUTUAL, credentialName: gate}
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


BY_TLS = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %(name)s}
spec:
  host: %(name)s.test
  trafficPolicy:
    tls: {mode: %(mode)s, sni: %(name)s.test, subjectAltNames: [%(name)s.test], %(files)s}
"""


class Reach:
    """Where clients find a server: at a port of the proxy or the server itself."""

    def __init__(self, port, certificates=None, identity=None):
        self.port = port
        # The authority that clients trust.
        self.certificates = certificates
        # The files that they show a certificate from, without their kind.
        self.identity = identity

    @property
    def scheme(self):
        return "https" if self.certificates else "http"

    def context(self, *protocols):
        """What Python's own TLS needs; `None` for clear text."""
        if self.certificates is None:
            return None
        context = self.certificates.context_of_client()
        if protocols:
            context.set_alpn_protocols(protocols)
        if self.identity:
            context.load_cert_chain(f"{self.identity}.pem", f"{self.identity}.key")
        return context

    def channel(self, host):
        options = [*UNLIMITED, ("grpc.default_authority", host)]
        address = f"127.0.0.1:{self.port}"
        if self.certificates is None:
            return grpc.insecure_channel(address, options=options)
        chain = [None, None]
        if self.identity:
            chain = [pathlib.Path(f"{self.identity}.{kind}").read_bytes() for kind in ("key", "pem")]
        credentials = grpc.ssl_channel_credentials(self.certificates.read("root.pem"), *chain)
        options.append(("grpc.ssl_target_name_override", host))
        return grpc.secure_channel(address, credentials, options=options)

    def curl_options(self):
        if self.certificates is None:
            return []
        options = ["--cacert", self.certificates.path("root.pem")]
        if self.identity:
            options += ["--cert", f"{self.identity}.pem", "--key", f"{self.identity}.key"]
        return options


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


def grpc_server(stack, credentials=None):
    """With TLS if there are credentials."""
    calls = Calls()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=[calls], options=UNLIMITED)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    stack.callback(lambda: server.stop(0).wait())
    return calls, port


def grpc_credentials(certificates, name, of_clients):
    pair = [(certificates.read(f"{name}.key"), certificates.read(f"{name}.pem"))]
    if not of_clients:
        return grpc.ssl_server_credentials(pair)
    return grpc.ssl_server_credentials(pair, certificates.read("root.pem"), require_client_auth=True)


def websocket_server(stack, context=None):
    def echo(connection):
        for message in connection:
            if message == "close":
                connection.close(4001, "as asked")
                return
            connection.send(message)

    server = serve_websocket(echo, "127.0.0.1", 0, max_size=None, ssl=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return server.socket.getsockname()[1]


class Grpc:
    """A client's calls, each named by its method."""

    def __init__(self, reach, calls, host):
        self.channel = reach.channel(host)
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


def grpc_fails(reach, host, wanted):
    with reach.channel(host) as channel:
        call = channel.unary_unary("/peers.Calls/Unary")
        expect(wanted, Grpc.failure(lambda: call(b"", timeout=PATIENCE_S)))


def websocket(reach, host):
    scheme = "wss" if reach.certificates else "ws"
    tls = {"ssl": reach.context(), "server_hostname": host} if reach.certificates else {}
    with socket.create_connection(("127.0.0.1", reach.port)) as raw:
        with connect_websocket(f"{scheme}://{host}/", sock=raw, max_size=None, **tls) as connection:
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


def httpx_http2(reach, host):
    async def talk():
        limits = httpx.Limits(max_connections=1)
        tls = {"verify": reach.context()} if reach.certificates else {"http1": False}
        async with httpx.AsyncClient(
            http2=True, timeout=PATIENCE_S, limits=limits, trust_env=False, headers={"host": host}, **tls
        ) as client:
            url = f"{reach.scheme}://127.0.0.1:{reach.port}"
            named = {"extensions": {"sni_hostname": host}}
            answers = await asyncio.gather(*(client.get(f"{url}/{at}", **named) for at in range(100)))
            for answer in answers:
                expect((200, "HTTP/2"), (answer.status_code, answer.http_version))
            content = random.Random(3).randbytes(MIB)
            answer = await client.post(f"{url}/upload", content=content, **named)
            expect(len(content), answer.json()["length"])

    asyncio.run(talk())


def aiohttp_by_tls(reach, host):
    async def talk():
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        options = {"ssl": reach.context("http/1.1"), "server_hostname": host}
        async with aiohttp.ClientSession(headers={"host": host}, timeout=timeout) as client:
            url = f"https://127.0.0.1:{reach.port}"
            for at in range(20):
                async with client.get(f"{url}/{at}", **options) as answer:
                    expect((200, f"/{at}"), (answer.status, (await answer.json())["path"]))
            content = random.Random(5).randbytes(MIB)
            async with client.post(f"{url}/upload", data=content, **options) as answer:
                expect(len(content), (await answer.json())["length"])

    asyncio.run(talk())


def program(*command, sends=None):
    done = subprocess.run(command, input=sends, capture_output=True, timeout=PATIENCE_S + 10)
    if done.returncode:
        raise AssertionError((done.stderr or done.stdout).decode(errors="replace")[-500:])
    return done.stdout.decode()


def curl(reach, host, option, version):
    url = f"{reach.scheme}://{host}:{reach.port}/a"
    told = ["-w", "\n%{http_code} %{http_version}", "--resolve", f"{host}:{reach.port}:127.0.0.1"]
    options = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE_S), option, *told]
    options += reach.curl_options()
    expect(f"200 {version}", program(*options, url).splitlines()[-1])
    content = random.Random(4).randbytes(MIB)
    lines = program(*options, "--data-binary", "@-", url, sends=content).splitlines()
    expect((f"200 {version}", MIB), (lines[-1], json.loads(lines[0])["length"]))


def curl_is_refused(reach, host):
    command = ["curl", "--silent", "--noproxy", "*", "--max-time", str(PATIENCE_S), *reach.curl_options()]
    command += ["--resolve", f"{host}:{reach.port}:127.0.0.1", f"https://{host}:{reach.port}/a"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S + 10)
    expect((True, b""), (done.returncode != 0, done.stdout))


def nghttp(reach, host):
    told = program("nghttp", "-v", "-H", f":authority: {host}", f"{reach.scheme}://127.0.0.1:{reach.port}/a")
    expect(True, ":status: 200" in told)


def h2load(reach, host):
    url = f"{reach.scheme}://127.0.0.1:{reach.port}/a"
    told = program("h2load", "-n2000", "-c4", "-m20", "-H", f":authority: {host}", url)
    expect(True, "2000 succeeded, 0 failed, 0 errored" in told)


def node(reach, host):
    root = [reach.certificates.path("root.pem")] if reach.certificates else []
    told = program("node", str(NODE), "client", str(reach.port), host, *root)
    expect("all well", told.strip())


def node_server(stack, folder, certificates=None):
    port = free_port()
    pair = [certificates.path(f"node-tls.{kind}") for kind in ("pem", "key")] if certificates else []
    name = folder / f"node{port}"
    start(stack, name, ["node", str(NODE), "server", str(port), *pair], port)
    return port


class Servers:
    """Servers that others wrote, in clear text and by TLS, each the only one of its host."""

    def __init__(self, stack, folder, certificates, has_node):
        self.plain = Upstream("v1")
        stack.callback(self.plain.stopping.set)
        self.calls, clear = grpc_server(stack)
        calls_by_tls, by_tls = grpc_server(stack, grpc_credentials(certificates, "grpc-tls", of_clients=False))
        calls_mutual, mutual = grpc_server(stack, grpc_credentials(certificates, "grpc-mutual", of_clients=True))
        gone = stack.enter_context(socket.socket())
        gone.bind(("127.0.0.1", 0))
        # The protocol, the port, and how the proxy reaches it by TLS.
        self.at = {
            "plain": ("HTTP", self.plain.port, None),
            "grpc": ("GRPC", clear, None),
            "grpc-tls": ("GRPC", by_tls, "SIMPLE"),
            "grpc-mutual": ("GRPC", mutual, "MUTUAL"),
            "gone": ("GRPC", gone.getsockname()[1], None),
            # A server that wants a certificate, and gets none; one whose authority is not trusted.
            "unnamed": ("GRPC", mutual, "SIMPLE"),
            "stranger": ("GRPC", by_tls, "STRANGER"),
            "websocket": ("HTTP", websocket_server(stack), None),
            "websocket-tls": ("HTTP", websocket_server(stack, certificates.context_of_server("websocket-tls")), "SIMPLE"),
        }
        self.grpc = {"grpc": self.calls, "grpc-tls": calls_by_tls, "grpc-mutual": calls_mutual}
        if has_node:
            self.at["node"] = ("HTTP2", node_server(stack, folder), None)
            self.at["node-tls"] = ("HTTP2", node_server(stack, folder, certificates), "SIMPLE")

    def documents(self, certificates, strangers):
        text = ""
        for name, (protocol, port, by_tls) in self.at.items():
            text += SERVICE % {"name": name, "protocol": protocol, "port": port}
            if by_tls is None:
                continue
            root = (strangers if by_tls == "STRANGER" else certificates).path("root.pem")
            files = f"caCertificates: {root}"
            if by_tls == "MUTUAL":
                pair = [certificates.path(f"client.{kind}") for kind in ("pem", "key")]
                files += ", clientCertificate: {}, privateKey: {}".format(*pair)
            mode = "MUTUAL" if by_tls == "MUTUAL" else "SIMPLE"
            text += BY_TLS % {"name": name, "mode": mode, "files": files}
        return text


CALLS = (
    "unary client_stream server_stream bidirectional big_message statuses unknown_method deadline "
    "cancel_unary cancel_stream many_at_once"
).split()


def grpc_scenes(stack, how, reach, calls, host):
    client = Grpc(reach, calls, host)
    stack.callback(client.channel.close)
    for name in CALLS:
        yield f"grpcio {name} {how}", getattr(client, name)


def http2_scenes(how, reach, host, has_node):
    # Without TLS `--http2` asks for an upgrade, which nobody has to grant.
    by_choice = "2" if reach.certificates else "1.1"
    scenes = {
        "httpx http2": httpx_http2,
        "curl --http2-prior-knowledge": functools.partial(curl, option="--http2-prior-knowledge", version="2"),
        "curl --http2": functools.partial(curl, option="--http2", version=by_choice),
        "curl --http1.1": functools.partial(curl, option="--http1.1", version="1.1"),
        "nghttp": nghttp,
        "h2load": h2load,
    }
    if reach.certificates:
        scenes["aiohttp"] = aiohttp_by_tls
    if has_node:
        scenes["node http2"] = node
    for name, play in scenes.items():
        yield f"{name} to {host} {how}", functools.partial(play, reach, host)


def scenes(binary, stack, folder, has_node):
    """Starts everything; the name of each scene and what plays it."""
    by_tls = ("grpc-tls", "grpc-mutual", "websocket-tls", "node-tls")
    fronts = [f"{name}.test" for name in ("plain", "grpc", "websocket", "node", "gone", "nowhere", *by_tls)]
    names = {"gate": fronts, "client": ["client.test"]}
    names["nginx-tls"] = ["nginx-tls.test"]
    names |= {name: [f"{name}.test", "unnamed.test", "stranger.test"] for name in by_tls}
    certificates = Certificates(folder / "certificates", names)
    strangers = Certificates(folder / "strangers", {"client": ["client.test"]})
    servers = Servers(stack, folder, certificates, has_node)
    ports = [free_port() for _ in range(3)]
    config = folder / "config"
    config.mkdir()
    documents = GATEWAY % tuple(ports) + certificates.secret("gate", "gate")
    (config / "all.yaml").write_text(documents + servers.documents(certificates, strangers))
    admin = f"127.0.0.1:{free_port()}"
    command = [binary, "run", "--config", str(config), "--workers", "2", "--admin", admin]
    start(stack, folder / "ringroad", command, ports[0])
    clear, tls, mutual = Reach(ports[0]), Reach(ports[1], certificates), Reach(ports[2], certificates, certificates.path("client"))

    direct = Reach(servers.at["grpc"][1])
    yield from grpc_scenes(stack, "without a proxy", direct, servers.calls, "grpc.test")
    yield from grpc_scenes(stack, "in clear text", clear, servers.calls, "grpc.test")
    yield from grpc_scenes(stack, "by TLS", tls, servers.calls, "grpc.test")
    yield from grpc_scenes(stack, "by TLS to a server by TLS", tls, servers.grpc["grpc-tls"], "grpc-tls.test")
    by_both = servers.grpc["grpc-mutual"]
    yield from grpc_scenes(stack, "by TLS of both sides, twice", mutual, by_both, "grpc-mutual.test")
    for how, reach in (("in clear text", clear), ("by TLS", tls)):
        for host, wanted in (("gone", "UNAVAILABLE"), ("nowhere", "UNIMPLEMENTED")):
            yield f"grpcio to {host} {how}", functools.partial(grpc_fails, reach, f"{host}.test", wanted)
    for host in ("unnamed", "stranger"):
        yield f"grpcio to {host}", functools.partial(grpc_fails, clear, f"{host}.test", "UNAVAILABLE")
    yield "curl without a certificate", lambda: curl_is_refused(Reach(ports[2], certificates), "plain.test")
    theirs = Reach(ports[2], certificates, strangers.path("client"))
    yield "curl with a stranger's certificate", lambda: curl_is_refused(theirs, "plain.test")

    yield "websockets without a proxy", lambda: websocket(Reach(servers.at["websocket"][1]), "websocket.test")
    for host in ("websocket.test", "websocket-tls.test"):
        for how, reach in (("in clear text", clear), ("by TLS", tls)):
            yield f"websockets to {host} {how}", functools.partial(websocket, reach, host)

    hosts = ["plain.test"]
    if has_node:
        hosts += ["node.test", "node-tls.test"]
        yield "node http2 without a proxy", lambda: node(Reach(servers.at["node"][1]), "node.test")
    for host in hosts:
        yield from http2_scenes("in clear text", clear, host, has_node)
        yield from http2_scenes("by TLS", tls, host, has_node)
    yield from proxied.scenes(binary, stack, folder / "proxied", certificates)
    yield "curl with a certificate", lambda: curl(mutual, "plain.test", "--http2", "2")


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
