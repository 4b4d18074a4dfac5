"""Differences that are meant. Each stands under a heading of docs/differences.md that gives the reason."""

import fnmatch
import pathlib

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "differences.md"

# By heading: patterns of case names, and patterns of what differs.
MEANT = {
    "Requests that two parsers could read differently": [
        ("empty host", "status"),
        ("two hosts", "status"),
        ("folded line", "status"),
        ("bare line feeds", "status"),
        ("two spaces", "status"),
        ("host with a *", "status"),
        ("version 1.2", "status"),
        ("version 2.0", "status"),
        ("path /a#f", "*"),
    ],
    "Methods": [("method that is not known", "status")],
    "CONNECT": [("CONNECT", "status")],
    "Expectations": [("expect", "interim"), ("unknown expectation", "*")],
    "Headers that a connection keeps to itself": [
        ("upstream hop-by-hop", "response header x-hop"),
        ("TE in capitals", "upstream v1 header te"),
    ],
    "Lines of one header": [("upstream cookies", "response header vary")],
    "Interim responses": [("upstream early-hints", "interim")],
    "Answers before the body has come": [
        ("redirect of POST", "response header connection"),
        ("redirect of POST", "log bytes_received"),
    ],
    "The length of a redirect": [
        ("redirect of HEAD", "response header content-length"),
        ("redirect of HEAD", "response header transfer-encoding"),
    ],
    "Targets that are no path": [
        ("path *", "log *"),
        ("path *", "routed"),
        ("path /%00", "log request_id"),
        ("path /%00", "log x_forwarded_for"),
    ],
    "Headers of a refusal that are to be appended": [("check by gRPC /no-append", "headers")],
    "Endpoints that are ejected again": [("scenario ejecting", "second: *")],
    "Request headers in the access log": [("headers own", "log x_forwarded_for")],
    "Request headers in operators": [
        ("headers renamed", "upstream v1 header x-new"),
        ("headers renamed", "response header x-new"),
    ],
    "The code in headers of own answers": [
        ("headers direct-edits", "response header x-code"),
        ("headers operators, failed", "response header x-code"),
    ],
    "Deadlines of gRPC callers": [("gRPC cut by its own limit", "response header grpc-status")],
    "Mirrored requests": [
        ("mirror*", "upstream v[23] header x-envoy-internal"),
        ("mirror*", "upstream v[23] header x-forwarded-for"),
    ],
}


class Meant:
    """Tells meant differences from others, and remembers which of them were met."""

    def __init__(self):
        lines = DOCUMENT.read_text().splitlines()
        headings = {line.removeprefix("## ") for line in lines if line.startswith("## ")}
        missing = MEANT.keys() - headings
        assert not missing, f"docs/differences.md says nothing of {sorted(missing)}"
        self.entries = [(heading, *entry) for heading, entries in MEANT.items() for entry in entries]
        self.met = set()

    def covers(self, case, what):
        found = [
            entry
            for entry in self.entries
            if fnmatch.fnmatchcase(case, entry[1]) and fnmatch.fnmatchcase(what, entry[2])
        ]
        self.met.update(found)
        return bool(found)

    def unmet(self):
        return [entry for entry in self.entries if entry not in self.met]
