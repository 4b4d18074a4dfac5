"""What takes several requests: limits that overflow, endpoints that are ejected and come back."""

import threading
import time

from upstream import SLOW_S
from wire import ask

# A limit on every wait for something to happen.
PATIENCE_S = 6


class Run:
    """One scenario at one proxy."""

    def __init__(self, name, port, peers):
        self.name = name
        self.port = port
        self.peers = peers
        self.found = {}
        self.agents = {}
        peers.take_seen()

    def get(self, target, step=None, lines=()):
        """The answer to a GET; with `step` it is compared, and so is its line in the access log."""
        head = [f"GET {target} HTTP/1.1", f"Host: {self.name}.test", *lines]
        if step:
            agent = f"{self.name}/{step}"
            self.agents[agent] = step
            head.append(f"User-Agent: {agent}")
        answer = ask(self.port, ("\r\n".join(head) + "\r\n\r\n").encode())
        if step:
            self.found[f"{step} status"] = answer.status
            self.found[f"{step} overloaded"] = answer.headers.get("x-envoy-overloaded")
            if answer.status >= 500:
                self.found[f"{step} body"] = answer.body
        return answer

    def at_once(self, *requests):
        """Sends requests, one a little after the other, none waiting for an answer."""
        threads = [threading.Thread(target=self.get, args=request) for request in requests]
        for thread in threads:
            thread.start()
            time.sleep(SLOW_S / 6)
        for thread in threads:
            thread.join()

    def count_until(self, holds, target):
        """Sends requests until an answer is as wanted; how many were not."""
        until = time.monotonic() + PATIENCE_S
        count = 0
        while time.monotonic() < until:
            if holds(self.get(target)):
                return count
            count += 1
            time.sleep(0.01)
        return f"more than {count}"

    def note_time(self, what, began, least, most):
        took = time.monotonic() - began
        self.found[what] = "as expected" if least <= took <= most else f"{took:.2f} s"


def connections(run):
    """One connection at work, one request that waits, no room for a third."""
    run.at_once(("/slow", "first"), ("/slow", "second"), ("/slow", "third"))
    run.get("/a", "afterwards")


def requests(run):
    run.at_once(("/slow", "first"), ("/slow", "second"), ("/slow", "third"))
    run.get("/a", "afterwards")


def retrying(run):
    """While the one retry that is allowed is under way, another request gets none."""
    run.at_once(("/a/try-503,slow", "first"), ("/b/try-503,200", "second"))
    run.found["arrivals"] = sorted((each["path"], each["headers"]["x-envoy-attempt-count"]) for each in run.peers.take_seen())
    run.get("/c/try-503,200", "afterwards")


def once_each(run):
    for step in ("first", "second", "third"):
        run.get("/a", step)
    used = [each["connection"] for each in run.peers.take_seen()]
    run.found["connections"] = [used.index(connection) for connection in used]


def is_bad(answer):
    return answer.status >= 500


def count_bad(run, target, number):
    return sum(is_bad(run.get(target)) for _ in range(number))


def eject(run, target, step):
    """Fails until the bad endpoint is out; what is compared is how many failures that took."""
    failures, clean = 0, 0
    while clean < 6 and failures < 20:
        bad = is_bad(run.get(target))
        clean = 0 if bad else clean + 1
        failures += bad
        # Envoy ejects on another thread than the one that counts.
        time.sleep(0.03 * bad)
    run.found[f"{step}: failures"] = failures


def ejecting(run):
    """Out after three failures for a second, and for two when it fails again at once."""
    for step, least, most in (("first", 0.9, 1.4), ("second", 1.9, 2.5)):
        eject(run, "/bad-503", step)
        out = time.monotonic()
        run.found[f"{step}: failures while out"] = count_bad(run, "/bad-503", 20)
        run.count_until(is_bad, "/bad-503")
        run.note_time(f"{step}: time out", out, least, most)


def ejecting_gateway(run):
    run.found["failures with 500"] = count_bad(run, "/bad-500", 12)
    eject(run, "/bad-502", "502")


def ejecting_never(run):
    """A threshold of 0 is none: nothing is ejected, and nothing detected."""
    run.found["failures"] = count_bad(run, "/bad-503", 20)


def ejecting_watched(run):
    """Without a threshold of their own, five gateway errors are detected and let be."""
    run.found["failures"] = count_bad(run, "/bad-503", 20)


def ejecting_little(run):
    """A tenth of two endpoints is none."""
    run.found["failures"] = count_bad(run, "/bad-503", 20)


def ejecting_all(run):
    for step in ("first", "second", "third"):
        run.get("/bad-503", step)
    # Envoy ejects on another thread than the one that counts.
    run.count_until(lambda answer: answer.body != b"tried", "/bad-503")
    began = time.monotonic()
    run.get("/bad-503", "fourth")
    run.count_until(lambda answer: answer.body == b"tried", "/bad-503")
    run.note_time("time out", began, 0.9, 1.4)


def ejecting_panic(run):
    for step in ("first", "second", "third", "fourth", "fifth"):
        run.get("/bad-503", step)


def ejecting_refused(run):
    eject(run, "/a", "refused")


def ejecting_split(run):
    eject(run, "/a", "refused")


def elsewhere(run):
    """A retry goes to the endpoint that has not been tried."""
    run.found["failures"] = count_bad(run, "/a", 12)


def hosts_of(run, requests):
    """Which upstreams took the requests: one, all three, or how many else."""
    run.peers.take_seen()
    for target, lines in requests:
        run.get(target, lines=lines)
    return len({each["upstream"] for each in run.peers.take_seen()})


def hash_header(run):
    run.found["one value"] = hosts_of(run, [("/a", ["X-User: a"])] * 20)
    run.found["many values"] = hosts_of(run, [("/a", [f"X-User: {at}"]) for at in range(60)])
    run.found["no value"] = hosts_of(run, [("/a", [])] * 60)


def hash_query(run):
    run.found["one value"] = hosts_of(run, [("/a?b=1&user=a", [])] * 20)
    run.found["many values"] = hosts_of(run, [(f"/a?user={at}", []) for at in range(60)])
    run.found["no value"] = hosts_of(run, [("/a?b=1", [])] * 60)


def hash_address(run):
    run.found["one address"] = hosts_of(run, [("/a", [])] * 20)


def cookies(run, answer):
    """The cookies that are set, without their values."""
    set_cookies = answer.headers.get("set-cookie", [])
    values = [line.split(";")[0].partition("=")[2] for line in set_cookies]
    run.found["cookies"] = [line.replace(value, "(value)", 1) for line, value in zip(set_cookies, values)]
    run.found["value lengths"] = [len(value.strip('"')) for value in values]
    return values


def hash_cookie(run):
    values = cookies(run, run.get("/a", "first"))
    for value in values:
        run.found["with the cookie"] = hosts_of(run, [("/a", [f"Cookie: other=1; user={value}"])] * 20)
        answer = run.get("/a", lines=[f"Cookie: user={value}"])
        run.found["set again"] = answer.headers.get("set-cookie")
    run.found["without"] = hosts_of(run, [("/a", [])] * 60)
    run.found["many values"] = hosts_of(run, [("/a", [f"Cookie: user={at}"]) for at in range(60)])


def all_scenarios():
    for scenario in (
        hash_header,
        hash_query,
        hash_address,
        hash_cookie,
        connections,
        requests,
        retrying,
        once_each,
        ejecting,
        ejecting_gateway,
        ejecting_never,
        ejecting_watched,
        ejecting_little,
        ejecting_all,
        ejecting_panic,
        ejecting_refused,
        ejecting_split,
        elsewhere,
    ):
        yield scenario.__name__.replace("_", "-"), scenario
    yield "hash-maglev", hash_header
    yield "hash-session-cookie", hash_cookie
    yield "hash-given-cookie", hash_cookie
