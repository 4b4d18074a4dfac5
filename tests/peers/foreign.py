"""Clients that others wrote, through Ringroad."""

import asyncio
import gzip
import hashlib
import json
import random
import subprocess
import tempfile

import aiohttp
import httpx

HOST = {"host": "plain.test"}
MIB = 1 << 20
REUSED = 100
PATIENCE_S = 20


def expect(wanted, found):
    if wanted != found:
        raise AssertionError(f"wanted {wanted!r}, found {found!r}")


def expect_upload(content, body):
    told = json.loads(body)
    expect([len(content), hashlib.sha256(content).hexdigest()], [told["length"], told["sha256"]])


def plain_gzip():
    return b"compressed " * 1000


def curl(url, *options, stdin=None):
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE_S), "-H", "Host: plain.test"]
    done = subprocess.run([*command, *options, url], input=stdin, capture_output=True, timeout=PATIENCE_S + 10)
    if done.returncode:
        raise AssertionError(done.stderr.decode())
    return done.stdout


def curl_get(url, content):
    expect("v1", json.loads(curl(f"{url}/a"))["upstream"])


def curl_post(url, content):
    expect_upload(content, curl(f"{url}/a", "--data-binary", "@-", stdin=content))


def curl_chunked(url, content):
    options = ("--data-binary", "@-", "-H", "Transfer-Encoding: chunked")
    expect_upload(content, curl(f"{url}/a", *options, stdin=content))


def curl_reuse(url, content):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as urls:
        for at in range(REUSED):
            urls.write(f'url = "{url}/{at}"\noutput = "/dev/null"\n')
        urls.flush()
        told = curl(f"{url}/last", "-K", urls.name, "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n")
    lines = told.decode().splitlines()
    expect(["200 1"] + ["200 0"] * REUSED, lines)


def curl_head(url, content):
    lines = curl(f"{url}/a", "--head").decode().splitlines()
    expect("HTTP/1.1 200 OK", lines[0])
    length = [line for line in lines if line.lower().startswith("content-length:")]
    expect(True, len(length) == 1 and int(length[0].split(":")[1]) > 0)


def curl_gzip(url, content):
    expect(plain_gzip(), gzip.decompress(curl(f"{url}/gzip", "-H", "Accept-Encoding: gzip")))
    expect(plain_gzip(), curl(f"{url}/gzip", "--compressed"))


def in_pieces(content):
    for at in range(0, len(content), 50_000):
        yield content[at : at + 50_000]



def with_httpx(act):
    def run(url, content):
        with httpx.Client(headers=HOST, timeout=PATIENCE_S, trust_env=False) as client:
            act(client, url, content)

    return run


def httpx_get(client, url, content):
    expect("v1", client.get(f"{url}/a").json()["upstream"])


def httpx_post(client, url, content):
    expect_upload(content, client.post(f"{url}/a", content=content).content)


def httpx_chunked(client, url, content):
    expect_upload(content, client.post(f"{url}/a", content=in_pieces(content)).content)


def httpx_reuse(client, url, content):
    ports = set()
    for at in range(REUSED):
        with client.stream("GET", f"{url}/{at}") as response:
            expect(f"/{at}", json.loads(response.read())["path"])
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    expect(1, len(ports))


def httpx_head(client, url, content):
    response = client.head(f"{url}/a")
    expect([200, b""], [response.status_code, response.content])
    expect(True, int(response.headers["content-length"]) > 0)


def httpx_gzip(client, url, content):
    response = client.get(f"{url}/gzip")
    expect(["gzip", plain_gzip()], [response.headers.get("content-encoding"), response.content])


def with_aiohttp(act):
    async def session(url, content):
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        made = []

        async def count(*_):
            made.append(1)

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(count)
        async with aiohttp.ClientSession(headers=HOST, timeout=timeout, trace_configs=[trace]) as client:
            await act(client, url, content, made)

    return lambda url, content: asyncio.run(session(url, content))


async def aiohttp_get(client, url, content, _):
    async with client.get(f"{url}/a") as response:
        expect("v1", (await response.json())["upstream"])


async def aiohttp_post(client, url, content, _):
    async with client.post(f"{url}/a", data=content) as response:
        expect_upload(content, await response.read())


async def aiohttp_chunked(client, url, content, _):
    async def pieces():
        for piece in in_pieces(content):
            yield piece

    async with client.post(f"{url}/a", data=pieces()) as response:
        expect_upload(content, await response.read())


async def aiohttp_reuse(client, url, content, made):
    for at in range(REUSED):
        async with client.get(f"{url}/{at}") as response:
            expect(f"/{at}", (await response.json())["path"])
    expect(1, len(made))


async def aiohttp_head(client, url, content, _):
    async with client.head(f"{url}/a") as response:
        expect([200, b""], [response.status, await response.read()])
        expect(True, int(response.headers["content-length"]) > 0)


async def aiohttp_gzip(client, url, content, _):
    async with client.get(f"{url}/gzip") as response:
        expect(plain_gzip(), await response.read())


def run(peers):
    """Each client's name and what went wrong, if anything."""
    url = f"http://127.0.0.1:{peers.ringroad}"
    content = random.Random(20).randbytes(MIB)
    for name, client, wrap in [
        ("curl", "curl", lambda act: act),
        ("httpx", "httpx", with_httpx),
        ("aiohttp", "aiohttp", with_aiohttp),
    ]:
        for what in ("get", "post", "chunked", "reuse", "head", "gzip"):
            problem = None
            try:
                wrap(globals()[f"{client}_{what}"])(url, content)
            except Exception as error:  # A foreign client has errors of its own.
                problem = f"{type(error).__name__}: {error}"
            yield f"{name} {what}", problem
