"""HTTP/2, gRPC and WebSocket between clients and servers that others wrote, through Ringroad.

    protocols.py BINARY

Every call has to end as it would without a proxy in between: each is made without one, in clear
text through the proxy, by TLS, and to servers that are reached by TLS.
"""

import asyncio
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

import aiohttp
import foreign_config
import foreign_grpc
import httpx
import proxied
from certificates import Certificates
from foreign import MIB, PATIENCE_S, expect
from proxies import free_port, start
from reach import Reach
from upstream import Upstream
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import serve as serve_websocket

NODE = pathlib.Path(__file__).with_name("node_http2.js")


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
        self.calls, clear = foreign_grpc.server(stack)
        calls_by_tls, by_tls = foreign_grpc.server(stack, foreign_grpc.credentials(certificates, "grpc-tls", of_clients=False))
        calls_mutual, mutual = foreign_grpc.server(stack, foreign_grpc.credentials(certificates, "grpc-mutual", of_clients=True))
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
            text += foreign_config.service(name, port, protocol)
            if by_tls is None:
                continue
            root = (strangers if by_tls == "STRANGER" else certificates).path("root.pem")
            files = f"caCertificates: {root}"
            if by_tls == "MUTUAL":
                pair = [certificates.path(f"client.{kind}") for kind in ("pem", "key")]
                files += ", clientCertificate: {}, privateKey: {}".format(*pair)
            mode = "MUTUAL" if by_tls == "MUTUAL" else "SIMPLE"
            tls = f"mode: {mode}, sni: {name}.test, subjectAltNames: [{name}.test], {files}"
            text += foreign_config.rule(name, f"tls: {{{tls}}}")
        return text


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
    documents = foreign_config.gateway(zip(ports, ("HTTP", "SIMPLE", "MUTUAL")))
    documents += foreign_config.settings() + certificates.secret("gate", "gate")
    (config / "all.yaml").write_text(documents + servers.documents(certificates, strangers))
    admin = f"127.0.0.1:{free_port()}"
    command = [binary, "run", "--config", str(config), "--workers", "2", "--admin", admin]
    start(stack, folder / "ringroad", command, ports[0])
    clear, tls, mutual = Reach(ports[0]), Reach(ports[1], certificates), Reach(ports[2], certificates, certificates.path("client"))

    direct = Reach(servers.at["grpc"][1])
    yield from foreign_grpc.scenes(stack, "without a proxy", direct, servers.calls, "grpc.test")
    yield from foreign_grpc.scenes(stack, "in clear text", clear, servers.calls, "grpc.test")
    yield from foreign_grpc.scenes(stack, "by TLS", tls, servers.calls, "grpc.test")
    yield from foreign_grpc.scenes(stack, "by TLS to a server by TLS", tls, servers.grpc["grpc-tls"], "grpc-tls.test")
    by_both = servers.grpc["grpc-mutual"]
    yield from foreign_grpc.scenes(stack, "by TLS of both sides, twice", mutual, by_both, "grpc-mutual.test")
    for how, reach in (("in clear text", clear), ("by TLS", tls)):
        for host, wanted in (("gone", "UNAVAILABLE"), ("nowhere", "UNIMPLEMENTED")):
            yield f"grpcio to {host} {how}", functools.partial(foreign_grpc.fails, reach, f"{host}.test", wanted)
    for host in ("unnamed", "stranger"):
        yield f"grpcio to {host}", functools.partial(foreign_grpc.fails, clear, f"{host}.test", "UNAVAILABLE")
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
