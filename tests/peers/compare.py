"""Sends each case through Ringroad and Envoy and compares the answers, what arrived upstream, and the
access logs.
"""

import re
import sys
import time

import cases
import foreign
import scenarios
from differences import Meant
from proxies import running
from services import SERVICES
from wire import ask

# Values that differ from request to request; that they are there is still compared.
OF_THE_MOMENT = {"date", "x-request-id", "x-envoy-upstream-service-time"}
LOGGED_OF_THE_MOMENT = {"request_id", "upstream_service_time"}
# The rest of the log's fields is about addresses, clusters and times.
LOGGED = (
    "method path protocol response_code response_flags response_code_details connection_termination_details "
    "upstream_transport_failure_reason bytes_received bytes_sent upstream_service_time x_forwarded_for "
    "request_id authority upstream_host route_name"
).split()
ARRIVAL_PATIENCE_S = 2
NOT_LOGGED = {"method": "not logged", "response_flags": "not logged"}
# Figures of a cluster that both have to count alike, however long a scenario took.
COUNTED = re.compile(
    r"upstream_rq_(retry.*|.*_overflow|timeout|per_try_timeout)|retry\..*|upstream_cx_(overflow|max_requests)"
    r"|outlier_detection\.ejections_(active|overflow|enforced_.*|detected_consecutive_.*)"
)
TIMER_SLACK_S = 0.01
EXPECTED_TIME = "x-envoy-expected-rq-timeout-ms"


def observe(port, case, agent, peers):
    """Everything that is compared, as a flat mapping."""
    peers.take_seen()
    request = case.request
    if not case.status_only:
        request = request.replace(b"\r\n\r\n", b"\r\nUser-Agent: %s\r\n\r\n" % agent.encode(), 1)
    side = "ringroad" if port == peers.ringroad else "envoy"
    routed_before = peers.routed(side)
    began = time.monotonic()
    try:
        answer = ask(port, request)
    except TimeoutError:
        return {"status": "no answer"}
    took = time.monotonic() - began
    found = {"status": answer.status}
    if case.status_only:
        return found
    found["routed"] = {stat: n - routed_before[stat] for stat, n in peers.routed(side).items() if n != routed_before[stat]}
    while peers.count_seen() < case.arrivals and time.monotonic() - began < ARRIVAL_PATIENCE_S:
        time.sleep(0.005)
    seen = peers.take_seen()
    least, most = case.takes
    found["time"] = "as expected" if least - TIMER_SLACK_S <= took <= most else f"{took:.2f} s"
    found["interim"] = answer.interim
    found["body"] = answer.body
    flatten("response", answer.headers, found)
    found["arrivals"] = [(each["upstream"], each["headers"].get("x-envoy-attempt-count")) for each in seen]
    for each in seen:
        at = f"upstream {each['upstream']}"
        found = {what: value for what, value in found.items() if not what.startswith(at)}
        found[f"{at} method"] = each["method"]
        found[f"{at} path"] = each["path"]
        found[f"{at} body length"] = each["length"]
        headers = mask_peer(each["headers"], port == peers.ringroad)
        if len(seen) > 1 and EXPECTED_TIME in headers:
            headers[EXPECTED_TIME] = [rough_ms(value) for value in headers[EXPECTED_TIME]]
        flatten(at, headers, found)
    return found


def rough_ms(value):
    """What later tries have left depends on how long the earlier ones took."""
    return "under 100" if int(value) < 100 else value


def mask_peer(headers, is_ringroad):
    """Envoy names a client on loopback by the machine's own address; Ringroad by the peer's."""
    lines = headers.get("x-forwarded-for", [])
    if not lines:
        return headers
    return {**headers, "x-forwarded-for": lines[:-1] + [mask_last(lines[-1], is_ringroad)]}


def mask_last(line, is_ringroad):
    *before, peer = line.split(",")
    if not is_ringroad or peer == "127.0.0.1":
        peer = "(client)"
    return ",".join([*before, peer])


def flatten(side, headers, found):
    for name, values in headers.items():
        if name != "user-agent":
            found[f"{side} header {name}"] = ["(some)" if name in OF_THE_MOMENT else value for value in values]


def add_log(entry, is_ringroad, found):
    for name in LOGGED:
        value = str(entry.get(name))
        value = None if value in ("None", "-", "") else value
        if value and name in LOGGED_OF_THE_MOMENT:
            value = "(some)"
        if value and name == "x_forwarded_for":
            value = mask_last(value, is_ringroad)
        found[f"log {name}"] = value


def differences(ours, theirs):
    for what in sorted(ours.keys() | theirs.keys()):
        if ours.get(what) != theirs.get(what):
            yield what, ours.get(what), theirs.get(what)


def counters(peers):
    """What both count of each service, as it is after all scenarios."""
    told = [peers.stats(name) for name in ("ringroad", "envoy")]
    # How often a request has to go elsewhere depends on the endpoint that a round begins with.
    for service in (each for each in SERVICES if each.name != "elsewhere"):
        prefixes = (f"cluster.outbound|80||{service.name}.internal.", f"cluster.{service.name}.")
        found = []
        for stats, prefix in zip(told, prefixes):
            own = {stat.removeprefix(prefix): value for stat, value in stats.items() if stat.startswith(prefix)}
            found.append({stat: value for stat, value in own.items() if value != "0" and COUNTED.fullmatch(stat)})
        yield f"counters of {service.name}", *found


def observe_all(peers):
    """Each case with what was observed at either proxy."""
    observed, played = [], []
    for number, case in enumerate(cases.all_cases()):
        agent = f"case/{number}"
        pair = [observe(port, case, agent, peers) for port in (peers.ringroad, peers.envoy)]
        observed.append((case, agent, *pair))
    for name, scenario in scenarios.all_scenarios():
        runs = []
        for port in (peers.ringroad, peers.envoy):
            runs.append(scenarios.Run(name, port, peers))
            scenario(runs[-1])
        played.append((name, *runs))
    wanted = {agent for case, agent, *_ in observed if not case.status_only}
    wanted |= {agent for _, run, _ in played for agent in run.agents}
    for at, name in enumerate(("ringroad", "envoy")):
        log = peers.access_log(name, wanted)
        for case, agent, *pair in observed:
            if not case.status_only:
                add_log(log.get(agent, NOT_LOGGED), at == 0, pair[at])
        for _, *runs in played:
            for agent, step in runs[at].agents.items():
                entry = log.get(agent, NOT_LOGGED)
                for field in ("response_flags", "response_code_details"):
                    runs[at].found[f"{step} {field}"] = entry.get(field)
    scenes = list(counters(peers))
    scenes += [(f"scenario {name}", *(run.found for run in runs)) for name, *runs in played]
    return [(case.name, *pair) for case, _, *pair in observed] + scenes + peers.checks


def main(binary):
    passed, failed = 0, 0
    meant = Meant()
    with running(binary) as peers:
        observed = observe_all(peers)
        names = [name for name, *_ in observed]
        assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
        for name, ours, theirs in observed:
            wrong = [
                f"    {what}\n      ringroad: {our!r}\n      envoy:    {their!r}"
                for what, our, their in differences(ours, theirs)
                if not meant.covers(name, what)
            ]
            if wrong:
                failed += 1
                print(f"DIFFERS {name}", *wrong, sep="\n")
            else:
                passed += 1
        # A difference that is gone must not stay in the list.
        for stale in meant.unmet():
            failed += 1
            print(f"NO LONGER DIFFERS: {stale}\n    take it out of tests/peers/differences.py")
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
