"""The requests that both proxies get."""

import dataclasses

import resilience
import routes
import shaping


@dataclasses.dataclass
class Case:
    name: str
    request: bytes
    # Malformed requests are answered in each proxy's own words.
    status_only: bool = False
    # How many requests the upstreams get, where some may arrive after the answer.
    arrivals: int = 0
    # The shortest and the longest time that it may take, in seconds.
    takes: tuple = (0, 5)


def get(target, host="plain.test", *lines, method="GET", version="1.1", body=b""):
    head = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        head.append(f"Host: {host}")
    head += lines
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


def matching():
    def by(name, target, *lines, host="match.test", method="GET"):
        return Case(name, get(target, host, *lines, method=method))

    yield by("exact uri", "/exact")
    yield by("exact uri with query", "/exact?a=1&b=2")
    yield by("exact uri with a slash more", "/exact/")
    yield by("exact uri in other case", "/EXACT")
    yield by("prefix uri", "/prefix/a/b")
    yield by("prefix uri within a word", "/prefixed")
    yield by("prefix with slash", "/tree/leaf")
    yield by("prefix with slash, without it", "/tree")
    yield by("regex uri", "/regex/42?q=1")
    yield by("regex uri in part", "/regex/42/more")
    yield by("ignored case", "/nOcAsE")
    yield by("ignored case of a prefix", "/ANYCASE/x")
    yield by("method", "/by", method="PUT")
    for name, value in routes.FORGED.items():
        named = ["Connection: X-Named"] if name == "x-named" else []
        yield by(f"forged {name}", "/forged", f"{name}: {value}", *named)
    yield by("header that no connection names", "/forged", "X-Named: 1")
    yield by("scheme that the gateway tells", "/made/x-forwarded-proto", "X-Forwarded-Proto: https")
    yield by("addresses that end in the peer", "/made/x-forwarded-for", "X-Forwarded-For: 10.0.0.9")
    yield by("trailers among codings", "/made/te", "TE: gzip, trailers")
    yield by("header exact", "/by", "X-Exact: one")
    yield by("header exact, other value", "/by", "X-Exact: two")
    yield by("header twice", "/by", "X-Exact: one", "X-Exact: two")
    yield by("header twice, the second", "/by", "X-Exact: two", "X-Exact: one")
    yield by("header twice, joined value", "/by", "X-Joined: one", "X-Joined: two")
    yield by("header once, joined value", "/by", "X-Joined: one,two")
    yield by("header with a comma", "/by", "X-Exact: one,two")
    yield by("header twice, regex", "/by", "X-Regex: no", "X-Regex: ore")
    yield by("header with spaces around", "/by", "X-Exact: \t one  ")
    yield by("header prefix", "/by", "X-Prefix: one")
    yield by("header regex", "/by", "X-Regex: ore")
    yield by("header regex in part", "/by", "X-Regex: ores")
    yield by("header present", "/by", "X-Present: any")
    yield by("header present and empty", "/by", "X-Present:")
    yield by("query exact", "/by?a=1&q=one")
    yield by("query exact, second value", "/by?q=two&q=one")
    yield by("query escaped", "/by?q=%6fne")
    yield by("query regex", "/by?r=123")
    yield by("query regex in part", "/by?r=123x")
    yield by("query without value", "/by?q")
    yield by("without header, absent", "/without")
    yield by("without header, other value", "/without", "X-No: no")
    yield by("without header, that value", "/without", "X-No: yes")
    yield by("without header, that value first", "/without", "X-No: yes", "X-No: no")
    yield by("without header, that value second", "/without", "X-No: no", "X-No: yes")
    yield by("without any such header, absent", "/absent")
    yield by("without any such header, there", "/absent", "X-No: 1")
    yield by("authority with port", "/authority", host="match.test:8080")
    yield by("authority without port", "/authority")
    yield by("no route", "/nothing/here")


def hosts():
    yield Case("host with port", get("/", "plain.test:8080"))
    yield Case("host in capitals", get("/", "PLAIN.Test"))
    yield Case("wildcard host", get("/", "a.wild.test"))
    yield Case("wildcard host, deeper", get("/", "a.b.wild.test:81"))
    yield Case("wildcard host, bare", get("/", "wild.test"))
    yield Case("exact host before wildcard", get("/", "beside.wild.test"))
    yield Case("no virtual host", get("/", "unknown.test"))
    yield Case("absolute form", get("http://plain.test/abs?x=1", "other.test"))
    yield Case("absolute form with port", get("http://plain.test:8080/abs", "plain.test"))
    yield Case("absolute form without path", get("http://plain.test", "plain.test"))
    yield Case("absolute form without path, OPTIONS", get("http://plain.test", "plain.test", method="OPTIONS"))
    yield Case("HTTP/1.0", get("/", version="1.0"))
    yield Case("HTTP/1.0 keep-alive", get("/", "plain.test", "Connection: keep-alive", version="1.0"))
    yield Case("HTTP/1.0, chunked answer", get("/chunked", version="1.0"))
    yield Case("connection: close", get("/", "plain.test", "Connection: close"))


def actions():
    def act(name, target, *lines, host="act.test", **more):
        return Case(name, get(target, host, *lines, **more))

    for name in ("uri", "authority", "https", "port", "302", "307"):
        yield act(f"redirect {name}", f"/redirect-{name}/a?q=1")
        yield act(f"redirect {name}, host with port", f"/redirect-{name}", host="act.test:8080")
    yield act("redirect https, port 80", "/redirect-https", host="act.test:80")
    yield act("redirect https, port 443", "/redirect-https", host="act.test:443")
    yield act("redirect of HEAD", "/redirect-uri", method="HEAD")
    yield act("redirect of POST", "/redirect-307", "Content-Length: 3", method="POST", body=b"abc")
    yield act("direct response", "/direct-body")
    yield act("direct response to HEAD", "/direct-body", method="HEAD")
    yield act("direct response without body", "/direct-bare")
    for name in ("created", "moved", "kept"):
        yield act(f"direct response {name}", f"/direct-{name}/a?b=1")
    yield act("rewrite prefix", "/rewrite-prefix/a?q=1")
    yield act("rewrite prefix, all of it", "/rewrite-prefix")
    yield act("rewrite of a normalised path", "/x/../rewrite-prefix/%41")
    yield act("rewrite whole", "/whole/a?q=1")
    yield act("rewrite regex", "/rewrite-regex/item/42/item/7?q=/item/9")
    yield act("rewrite regex that does not match", "/rewrite-regex/none")
    yield act("rewrite authority", "/rewrite-authority")
    yield act("subset v2", "/second")
    yield act("header edits", "/edits", "X-Set: 1", "X-Set: 2", "X-Add: came", "X-Remove: 1", "X-Keep: 1")
    yield act("timeout", "/timeout/stall")
    yield act("within the timeout", "/timeout/a")
    yield act("refused upstream", "/refused")
    yield act("refused upstream, POST", "/refused", "Content-Length: 3", method="POST", body=b"abc")
    yield act("missing cluster", "/missing")
    yield act("no endpoints", "/empty")
    yield act("no endpoints, HEAD", "/empty", method="HEAD")


def paths():
    targets = ["/a/../b", "/a/./b", "/a//b", "//a", "/a/..", "/../a", "/a/%2e%2e/b", "/a/%2E/b"]
    targets += ["/a\\b", "/a\\..\\b", "/%41%7e", "/a%2fb", "/a%2Fb/../c", "/%zz", "/a%", "/%5c"]
    targets += ["/a?x=/../y", "/a?", "/a?b?c", "/a;b=1", "/%00", "/a#f", "/{a}|^", "/a/...", "/a\"<b>`", "/%e2%82%ac"]
    for target in targets:
        yield Case(f"path {target}", get(target))
    yield Case("path *", get("*", method="OPTIONS"))


def exchanges():
    def on_plain(name, target, *lines, **more):
        return Case(name, get(target, "plain.test", *lines, **more))

    yield on_plain("plain GET", "/")
    yield on_plain("HEAD", "/", method="HEAD")
    yield on_plain("DELETE", "/", method="DELETE")
    for method in ("OPTIONS", "TRACE", "PATCH", "PURGE", "POST"):
        yield on_plain(f"{method} without length", "/", method=method)
    yield on_plain("POST with length", "/", "Content-Length: 5", method="POST", body=b"hello")
    yield on_plain("POST of nothing", "/", "Content-Length: 0", method="POST")
    chunks = b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\n\r\n"
    yield on_plain("POST chunked", "/", "Transfer-Encoding: chunked", method="POST", body=chunks)
    yield on_plain("expect", "/", "Content-Length: 2", "Expect: 100-continue", method="POST", body=b"ok")
    yield on_plain("unknown expectation", "/", "Content-Length: 2", "Expect: else", method="POST", body=b"ok")
    yield on_plain("XFF", "/", "X-Forwarded-For: 1.2.3.4")
    yield on_plain("XFF twice", "/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8, 9.9.9.9")
    yield on_plain("XFP", "/", "X-Forwarded-Proto: https", "X-Forwarded-Host: h", "X-Forwarded-Port: 1")
    yield on_plain("request id", "/", "X-Request-Id: mine")
    yield on_plain("client certificate header", "/", "X-Forwarded-Client-Cert: By=x")
    steering = ["max-retries: 3", "retry-on: 5xx", "upstream-rq-timeout-ms: 1", "internal: true"]
    steering += ["expected-rq-timeout-ms: 5", "original-path: /x", "original-url: /x", "attempt-count: 9"]
    steering += ["external-address: 1.1.1.1", "decorator-operation: x", "downstream-service-cluster: x"]
    steering += ["downstream-service-node: x", "force-trace: 1", "ip-tags: x", "hedge-on-per-try-timeout: true"]
    steering += ["upstream-alt-stat-name: x", "upstream-rq-per-try-timeout-ms: 1", "retry-grpc-on: cancelled"]
    steering += ["retriable-status-codes: 500", "retriable-header-names: x", "unknown: x"]
    steering += ["upstream-rq-timeout-alt-response: 1", "is-timeout-retry: 1", "upstream-stream-duration-ms: 1"]
    for line in steering:
        yield on_plain(f"x-envoy-{line.split(':')[0]}", "/", f"X-Envoy-{line}")
    yield on_plain("connection-named", "/", "Connection: x-hop, keep-alive", "X-Hop: 1", "Keep-Alive: 5")
    yield on_plain("proxy headers", "/", "Proxy-Connection: keep-alive", "Proxy-Authorization: x", "Proxy-Authenticate: x")
    yield on_plain("TE", "/", "TE: trailers", "Connection: te")
    yield on_plain("TE other", "/", "TE: gzip")
    yield on_plain("TE several", "/", "TE: gzip, Trailers;q=0.5")
    yield on_plain("TE in capitals", "/", "TE: gzip, Trailers")
    yield on_plain("TE twice", "/", "TE: gzip", "TE: trailers")
    yield on_plain("trailer announced", "/", "Trailer: x")
    yield on_plain("h2c upgrade", "/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    yield on_plain("other upgrade", "/", "Connection: Upgrade", "Upgrade: other")
    yield on_plain("upgrade not named", "/", "Upgrade: other")
    yield on_plain("cookies", "/", "Cookie: a=1", "Cookie: b=2")
    yield on_plain("same header twice", "/", "X-A: 1", "X-A: 2", "X-Empty:")
    yield on_plain("gzip", "/gzip", "Accept-Encoding: gzip")
    for behaviour in (
        "no-content not-modified chunked hop-by-hop own-names cookies early-hints teapot until-close http10 "
        "close reset cut-short chunks-cut-short bad-chunk head-cut-short garbage two-lengths"
    ).split():
        yield on_plain(f"upstream {behaviour}", f"/{behaviour}")
    yield on_plain("HEAD of a chunked answer", "/no-content", method="HEAD")


def malformed():
    def bad(name, request):
        return Case(name, request, status_only=True)

    def lines(name, *extra, body=b"", method="GET"):
        return bad(name, get("/", "plain.test", *extra, method=method, body=body))

    yield bad("no host", get("/", None))
    yield bad("no host, HTTP/1.0", get("/", None, version="1.0"))
    yield bad("empty host", get("/", ""))
    yield lines("two hosts", "Host: plain.test")
    yield lines("space before the colon", "X-A : 1")
    yield lines("space in a name", "X A: 1")
    yield lines("no colon", "nonsense")
    yield lines("empty name", ": 1")
    yield lines("zero byte in a value", "X-A: a\0b")
    yield lines("folded line", "X-A: 1", " more")
    yield lines("length and chunked", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST", body=b"0\r\n\r\n")
    yield lines("two lengths", "Content-Length: 1", "Content-Length: 2", method="POST", body=b"ab")
    yield lines("the same length twice", "Content-Length: 1", "Content-Length: 1", method="POST", body=b"a")
    yield lines("negative length", "Content-Length: -1", method="POST")
    yield lines("length with sign", "Content-Length: +1", method="POST", body=b"a")
    yield lines("huge length", "Content-Length: 99999999999999999999999", method="POST")
    yield lines("other transfer coding", "Transfer-Encoding: gzip, chunked", method="POST", body=b"0\r\n\r\n")
    yield lines("unknown transfer coding", "Transfer-Encoding: else", method="POST", body=b"0\r\n\r\n")
    yield lines("chunk size that is none", "Transfer-Encoding: chunked", method="POST", body=b"zz\r\n")
    yield bad("bare line feeds", b"GET / HTTP/1.1\nHost: plain.test\n\n")
    yield bad("two spaces", b"GET  / HTTP/1.1\r\nHost: plain.test\r\n\r\n")
    yield bad("version 1.2", get("/", version="1.2"))
    yield bad("version 2.0", get("/", version="2.0"))
    yield bad("no version", b"GET /\r\nHost: plain.test\r\n\r\n")
    yield bad("method that is not known", get("/", method="FOO"))
    yield bad("host with a user", get("/", "user@plain.test"))
    yield bad("host with a port too high", get("/", "plain.test:65536"))
    yield bad("method that is none", get("/", method="G@T"))
    yield bad("target without slash", get("abc"))
    yield bad("other scheme", get("ftp://plain.test/"))
    yield bad("CONNECT", get("plain.test:80", "plain.test:80", method="CONNECT"))
    yield bad("nonsense", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    yield lines("head of 70,000 bytes", "X-A: " + "a" * 70_000)
    yield lines("101 header lines", *[f"X-{at}: 1" for at in range(100)])
    yield bad("empty lines before", b"\r\n\r\n" + get("/"))


def shapes():
    sent = ("X-Sent: sent", "X-Empty:", "X-List: came", "X-Both: came", "X-Gone: 1", "X-Rule: came")
    for name, _, _ in shaping.HEADERS:
        yield Case(f"headers {name}", get(f"/{name}/a?b=1", "headers.test", *sent))
    yield Case("headers operators, gzip", get("/operators/gzip", "headers.test:8080", *sent))
    yield Case("headers operators, failed", get("/operators/close", "headers.test", *sent))
    for name, _, _ in shaping.REDIRECTS:
        for host in ("redirects.test", "redirects.test:80", "redirects.test:443", "redirects.test:8080"):
            yield Case(f"redirect to {name} from {host}", get(f"/{name}/a/b?c=1", host))

    def by(name, query="", *lines, method="GET"):
        title = f"condition {name} {query} {' '.join(lines)} {method}"
        return Case(title, get(f"/{name}/a{query}", "conditions.test", *lines, method=method))

    yield by("scheme")
    yield by("scheme", "", "X-Forwarded-Proto: https")
    yield by("scheme-https")
    yield by("scheme-https", "", "X-Forwarded-Proto: https")
    yield by("all-at-once", "?q", "X-One: 1", "X-Two: 22")
    yield by("all-at-once", "?q=", "X-One: 1", "X-Two: 2")
    yield by("all-at-once", "?p&q=1", "X-One: 1", "X-Two: 2")
    yield by("all-at-once", "", "X-One: 1", "X-Two: 2")
    yield by("all-at-once", "?q", "X-One: 1", "X-Two: 1")
    yield by("all-at-once", "?q", "X-One: 1", "X-Two: 2", method="PUT")
    for query in ("?q=one", "?q=two", "?q=on", "?Q=one", "?q", "?q=", "?a&q", "?q=%6f", "?q=two&q=one", "?aq=one", "?;q=one"):
        yield by("query-prefix", query)
        yield by("query-empty", query)
    for cookies in (["user=jason"], ["a=1; user=jason"], ["a=1;user=jason;b"], ["user=jasons"], ["a=1", "user=jason"], []):
        yield by("cookie", "", *(f"Cookie: {cookie}" for cookie in cookies))
    for line in (["X-Any: 1"], ["X-Any:"], []):
        yield by("header-empty", "", *line)
    for name in ("not-prefix", "not-regex"):
        for lines in (["X-No: a"], ["X-No: ab"], ["X-No: ba"], ["X-No:"], [], ["X-No: b", "X-No: a"]):
            yield by(name, "", *lines)


def grpc():
    def on(name, target, host="act.test", **more):
        lines = ("Content-Type: application/grpc", "TE: trailers", "Content-Length: 0")
        return Case(f"gRPC {name}", get(target, host, *lines, method="POST"), **more)

    yield on("plain", "/", "plain.test")
    yield on("no virtual host", "/", "unknown.test")
    yield on("no route", "/nothing", "match.test")
    yield on("missing cluster", "/missing")
    yield on("no endpoints", "/empty")
    yield on("refused", "/refused")
    yield on("timeout", "/timeout/stall")
    yield on("close", "/close", "plain.test")
    yield on("garbage", "/garbage", "plain.test")
    yield on("direct response", "/direct-body")
    yield on("redirect", "/redirect-uri")
    for status in (404, 418, 429, 500, 503):
        yield on(f"upstream {status}", f"/try-{status}", "plain.test")
    for timeout in ("100m", "1S", "abc", "0m"):
        lines = ("Content-Type: application/grpc", f"grpc-timeout: {timeout}", "Content-Length: 0")
        yield Case(f"gRPC grpc-timeout {timeout}", get("/timeout/a", "act.test", *lines, method="POST"))
        yield Case(f"gRPC grpc-timeout {timeout} without a limit", get("/a", "plain.test", *lines, method="POST"))
    lines = ("Content-Type: application/grpc", "Content-Length: 0")
    for upstream in ("cut-short", "chunks-cut-short"):
        yield Case(f"gRPC {upstream}", get(f"/{upstream}", "plain.test", *lines, method="POST"))
    lines = ("Content-Type: application/grpc", "grpc-timeout: 100m", "Content-Length: 0")
    yield Case("gRPC cut by its own limit", get("/stall", "plain.test", *lines, method="POST"), takes=(0.1, 0.2))


def retries():
    def on(name, answers, *lines, **more):
        target = f"/{name}/try-{answers}"
        return Case(f"retry {name} {answers}", get(target, "retry.test", *lines, **more))

    answers = "503,200 503,503,503,200 500,200 502,200 504,200 501,200 404,200 409,200 425,200 429,200".split()
    answers += "429-limited,200 503-overloaded,200 head-cut-short,200 reset,200 close,200 cut-short,200 garbage,200 reset".split()
    answers += "g0 g14,g0 g1,g0 g2,g0 g4,g0 g8,g0 g13,g0 g14-limited,g0 g14-404,g0".split()
    for name, _, _ in resilience.RETRIES:
        for answer in answers:
            lines = ("Content-Type: application/grpc",) if answer.startswith("g") and answer[1].isdigit() else ()
            yield on(name, answer, *lines)
    for name, _, _ in resilience.REFUSING:
        yield on(name, "200")
    yield Case("retry of POST", get("/5xx/try-503,", "retry.test", "Content-Length: 5", method="POST", body=b"hello"))
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    yield Case(
        "retry of chunked POST",
        get("/5xx/try-503,", "retry.test", "Transfer-Encoding: chunked", method="POST", body=chunks),
    )
    yield Case("retry of POST after a reset", get("/5xx/try-reset,", "retry.test", "Content-Length: 5", method="POST", body=b"hello"))
    yield Case("retry of HEAD", get("/5xx/try-503,", "retry.test", method="HEAD"))


def limits():
    def on(name, answers, *lines, takes=(0, 5)):
        return Case(f"limit {name} {answers}", get(f"/{name}/try-{answers}", "retry.test", *lines), takes=takes)

    yield on("limit", "stall", takes=(0.3, 0.45))
    yield on("limit", "503")
    yield on("limit-default", "stall", takes=(0.3, 0.45))
    for name in ("per-try", "per-try-gateway-error"):
        yield on(name, "stall", takes=(0.45, 0.75))
        yield on(name, "stall,200", takes=(0.15, 0.35))
    yield on("per-try-default", "stall", takes=(0.15, 0.3))
    yield on("both-limits", "stall", takes=(0.4, 0.55))
    yield on("both-limits", "stall,200", takes=(0.15, 0.35))


def faults():
    def on(name, *lines, takes=(0, 0.15), **more):
        return Case(f"fault {name} {' '.join(lines)}".strip(), get(f"/{name}/a", "fault.test", *lines, **more), takes=takes)

    for name in ("abort-503", "abort-418", "abort-200", "abort-grpc", "abort-never", "abort-retried", "delay-never", "abort-nowhere"):
        yield on(name)
    yield on("abort-503", "Content-Type: application/grpc")
    yield on("abort-grpc", "Content-Type: application/grpc")
    yield Case("fault abort of HEAD", get("/abort-503/a", "fault.test", method="HEAD"))
    yield on("delay", takes=(0.2, 0.35))
    yield on("delay-abort", takes=(0.2, 0.35))
    yield on("delay-nowhere", takes=(0.2, 0.35))
    yield on("delay-limit", takes=(0.4, 0.55))
    yield Case("fault delay beyond the limit", get("/delay-limit/stall", "fault.test"), takes=(0.6, 0.8))


def cross_origin():
    def on(name, *lines, method="GET"):
        yield Case(f"{name} {method} {' '.join(lines)}".strip(), get(f"/{name}/a", "cors.test", *lines, method=method))

    asks = "Access-Control-Request-Method: PUT"
    for name, _, _ in resilience.CROSS_ORIGIN:
        for origin in ("https://a.test", "https://b.any", "https://c1.test", "https://c12.test", "http://a.test", ""):
            yield from on(name, f"Origin: {origin}")
            yield from on(name, f"Origin: {origin}", asks, method="OPTIONS")
        yield from on(name, "Origin: https://a.test", method="OPTIONS")
        yield from on(name, asks, method="OPTIONS")
        yield from on(name, "Origin: https://a.test", asks, "Access-Control-Request-Headers: x-any", method="OPTIONS")
        yield from on(name)


def mirrors():
    def on(name, arrivals, target="a", *lines, **more):
        request = get(f"/{name}/{target}", "mirror.test", *lines, **more)
        return Case(f"{name} {target} {more.get('method', '')}".strip(), request, arrivals=arrivals)

    yield on("mirror", 2)
    yield on("mirror", 2, "b?q=1", "Content-Length: 5", method="POST", body=b"hello")
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    yield on("mirror", 2, "c", "Transfer-Encoding: chunked", method="PUT", body=chunks)
    yield on("mirror", 2, "", method="HEAD")
    yield on("mirror", 2, "reset")
    yield on("mirror", 2, "try-503,200")
    yield on("mirror-none", 1)
    yield on("mirror-missing", 1)
    yield on("mirrors", 3)


def all_cases():
    groups = (matching, hosts, actions, paths, exchanges, malformed)
    for group in (*groups, shapes, grpc, retries, limits, faults, cross_origin, mirrors):
        yield from group()
