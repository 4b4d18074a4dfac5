"""The PROXY protocol with others: HAProxy in front, and HAProxy and nginx behind."""

import contextlib
import http.client
import json
import socket

import foreign_config
from foreign import PATIENCE_S, expect
from proxies import free_port, start
from upstream import Upstream

# Who asks. Loopback has many addresses.
CLIENTS = ("127.0.0.77", "127.0.0.78")

BYTES = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp}
spec:
  hosts: ["*"]
  gateways: [gate]
  tcp:
  - match: [{port: %d}]
    route: [{destination: {host: nginx-v2.test, port: {number: 80}}}]
"""
NGINX = """daemon off;
pid %(folder)s/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy;
  fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi;
  scgi_temp_path %(folder)s/scgi;
  server {
    listen 127.0.0.1:%(ready)d;
    listen 127.0.0.1:%(clear)d proxy_protocol;
    listen 127.0.0.1:%(tls)d ssl proxy_protocol;
    ssl_certificate %(certificate)s;
    ssl_certificate_key %(key)s;
    location / { return 200 "$proxy_protocol_addr:$proxy_protocol_port"; }
  }
}
"""
HAPROXY = """defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen ready
  bind 127.0.0.1:%(ready)d
  mode http
  http-request return status 200
listen named
  bind 127.0.0.1:%(named)d accept-proxy
  mode http
  http-request return status 200 content-type text/plain lf-string "%%[src]:%%[src_port]"
"""
FRONT = """listen %(name)s
  bind 127.0.0.1:%(port)d
  server ringroad 127.0.0.1:%(to)d %(how)s
"""
# How HAProxy tells of its clients; the last with checksum and id.
WAYS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2 with extensions": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
}


class Client:
    """A connection from an address of its own."""

    def __init__(self, stack, address, port, context=None):
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=(address, 0))
        self.name = "{}:{}".format(*raw.getsockname())
        self.http = http.client.HTTPConnection("127.0.0.1", port)
        self.http.sock = context.wrap_socket(raw, server_hostname="plain.test") if context else raw
        stack.callback(self.http.close)

    def ask(self, host, path="/"):
        self.http.request("GET", path, headers={"Host": host})
        answer = self.http.getresponse()
        body = answer.read().decode()
        expect(200, answer.status)
        return body


def run_nginx(stack, folder, certificates):
    """Tells who its client is; the ports without TLS and with it."""
    ready, clear, tls = (free_port() for _ in range(3))
    pair = {"certificate": certificates.path("nginx-tls.pem"), "key": certificates.path("nginx-tls.key")}
    config = folder / "nginx.conf"
    config.write_text(NGINX % {"folder": folder, "ready": ready, "clear": clear, "tls": tls, **pair})
    start(stack, folder / "nginx", ["nginx", "-p", str(folder), "-c", str(config)], ready)
    return clear, tls


def run_haproxy(stack, folder, ways):
    """Tells who its client is; its port, and those before each of `ways`."""
    ready, named = free_port(), free_port()
    fronts = {name: free_port() for name in ways}
    text = HAPROXY % {"ready": ready, "named": named}
    for at, (name, (how, to)) in enumerate(ways.items()):
        text += FRONT % {"name": f"front{at}", "port": fronts[name], "to": to, "how": how}
    config = folder / "haproxy.cfg"
    config.write_text(text)
    start(stack, folder / "haproxy", ["haproxy", "-db", "-f", str(config)], ready)
    return named, fronts


def run_ringroad(stack, folder, binary, ports, certificates, services, takes_headers):
    config = folder / ("behind" if takes_headers else "before")
    config.mkdir()
    settings = ", gatewayTopology: {proxyProtocol: {}}" if takes_headers else ""
    documents = foreign_config.gateway(zip(ports, ("HTTP", "SIMPLE", "TCP"))) + BYTES % ports[2]
    documents += foreign_config.settings(settings) + certificates.secret("gate", "gate")
    for name, (port, policy) in services.items():
        documents += foreign_config.service(name, port)
        if policy:
            documents += foreign_config.rule(name, policy)
    (config / "all.yaml").write_text(documents)
    admin = f"127.0.0.1:{free_port()}"
    command = [binary, "run", "--config", str(config), "--workers", "2", "--admin", admin]
    start(stack, folder / f"ringroad-{config.name}", command, ports[0])


def scenes(binary, stack, folder, certificates):
    """Starts everything; the name of each scene and what plays it."""
    folder.mkdir()
    plain = Upstream("v1")
    stack.callback(plain.stopping.set)
    before, behind = ([free_port() for _ in range(3)] for _ in range(2))
    ways = {}
    for name, how in WAYS.items():
        for kind, to in zip(("http", "https", "tcp"), behind):
            ways[f"{name}, {kind}"] = (how, to)
    clear, tls = run_nginx(stack, folder, certificates)
    named, fronts = run_haproxy(stack, folder, ways)
    by_tls = "tls: {mode: SIMPLE, sni: nginx-tls.test, caCertificates: %s}" % certificates.path("root.pem")
    services = {
        "plain": (plain.port, None),
        "nginx-v1": (clear, "proxyProtocol: {version: V1}"),
        "nginx-v2": (clear, "proxyProtocol: {version: V2}"),
        "nginx-tls": (tls, "proxyProtocol: {version: V2}, " + by_tls),
        "haproxy-v1": (named, "proxyProtocol: {}"),
        "haproxy-v2": (named, "proxyProtocol: {version: V2}"),
    }
    for ports, takes_headers in ((before, False), (behind, True)):
        run_ringroad(stack, folder, binary, ports, certificates, services, takes_headers)
    names = [f"{name}.test" for name in services if name != "plain"]
    context = certificates.context_of_client()

    def behind_us():
        """Each server is told of each client, on each connection, whoever asked before."""
        clients = [Client(stack, address, before[0]) for address in CLIENTS * 2]
        clients += [Client(stack, address, before[1], context) for address in CLIENTS]
        for _ in range(3):
            for client in clients:
                for name in names:
                    expect(client.name, client.ask(name))

    def bytes_behind_us():
        for address in CLIENTS:
            client = Client(stack, address, before[2])
            expect(client.name, client.ask("any.test"))

    def before_us(way):
        for address in CLIENTS:
            for kind in ("http", "https"):
                client = Client(stack, address, fronts[f"{way}, {kind}"], context if kind == "https" else None)
                for at in range(3):
                    expect(f"/{at}", json.loads(client.ask("plain.test", f"/{at}"))["path"])
                    (seen,) = plain.take_seen()
                    expect([address], seen["headers"]["x-forwarded-for"])
                    expect([kind], seen["headers"]["x-forwarded-proto"])

    def before_and_behind_us(way):
        """What the first says arrives at the last."""
        for address in CLIENTS:
            client = Client(stack, address, fronts[f"{way}, http"])
            for name in names:
                expect(client.name, client.ask(name))
            client = Client(stack, address, fronts[f"{way}, tcp"])
            expect(client.name, client.ask("any.test"))

    def no_header():
        """Whoever does not come through HAProxy is not served."""
        with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
            Client(stack, CLIENTS[0], behind[0]).ask("plain.test")
            raise AssertionError("served")
        expect([], plain.take_seen())

    yield "PROXY to nginx and HAProxy", behind_us
    yield "PROXY to nginx, TCP", bytes_behind_us
    for way in WAYS:
        yield f"PROXY {way} from HAProxy", lambda: before_us(way)
        yield f"PROXY {way} from HAProxy, and on to others", lambda: before_and_behind_us(way)
    yield "no PROXY header", no_header
