"""Sends each case through Ringroad and Envoy and compares the answers and what arrived upstream."""

import sys

import cases
import foreign
from differences import ALLOWED
from proxies import running
from wire import ask

# Values that differ from request to request; that the header is there is still compared.
OF_THE_MOMENT = {"date", "x-request-id", "x-envoy-upstream-service-time"}


def observe(port, case, peers):
    """Everything that is compared, as a flat mapping."""
    peers.take_seen()
    try:
        answer = ask(port, case.request)
    except TimeoutError:
        return {"status": "no answer"}
    seen = peers.take_seen()
    found = {"status": answer.status}
    if case.status_only:
        return found
    found["interim"] = answer.interim
    found["body"] = answer.body
    flatten("response", answer.headers, found)
    found["requests upstream"] = len(seen)
    for each in seen[-1:]:
        found["upstream"] = each["upstream"]
        found["upstream method"] = each["method"]
        found["upstream path"] = each["path"]
        flatten("upstream", mask_peer(each["headers"], port == peers.ringroad), found)
    return found


def mask_peer(headers, is_ringroad):
    """Envoy names a client on loopback by the machine's own address; Ringroad by the peer's."""
    lines = headers.get("x-forwarded-for", [])
    if not lines:
        return headers
    *before, peer = lines[-1].split(",")
    if not is_ringroad or peer == "127.0.0.1":
        peer = "(client)"
    return {**headers, "x-forwarded-for": lines[:-1] + [",".join([*before, peer])]}


def flatten(side, headers, found):
    for name, values in headers.items():
        found[f"{side} header {name}"] = ["(some)" if name in OF_THE_MOMENT else value for value in values]


def differences(ours, theirs):
    for what in sorted(ours.keys() | theirs.keys()):
        if ours.get(what) != theirs.get(what):
            yield what, ours.get(what), theirs.get(what)


def main(binary):
    passed, failed, met = 0, 0, set()
    names = set()
    with running(binary) as peers:
        for case in cases.all_cases():
            assert case.name not in names, f"two cases are named {case.name}"
            names.add(case.name)
            ours, theirs = (observe(port, case, peers) for port in (peers.ringroad, peers.envoy))
            wrong = []
            for what, our, their in differences(ours, theirs):
                if (case.name, what) in ALLOWED or ("*", what) in ALLOWED:
                    met.update(key for key in ((case.name, what), ("*", what)) if key in ALLOWED)
                else:
                    wrong.append(f"    {what}\n      ringroad: {our!r}\n      envoy:    {their!r}")
            if wrong:
                failed += 1
                print(f"DIFFERS {case.name}", *wrong, sep="\n")
            else:
                passed += 1
        # A difference that is gone must not stay in the list.
        for stale in sorted(ALLOWED - met):
            failed += 1
            print(f"NO LONGER DIFFERS {stale[0]}: {stale[1]}\n    take it out of tests/peers/differences.py")
        for name, problem in foreign.run(peers):
            if problem:
                failed += 1
                print(f"FAILED {name}\n    {problem}")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return failed == 0


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
