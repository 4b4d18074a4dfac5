"""Calls of grpcio to a server of its own."""

import concurrent.futures
import json
import random
import threading
import time

import grpc
from foreign import MIB, PATIENCE_S, expect
from reach import UNLIMITED


class Calls(grpc.GenericRpcHandler):
    """A server of gRPC without generated code: messages are bytes."""

    def __init__(self):
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "HangStream": grpc.unary_stream_rpc_method_handler(self.hang_stream),
        }
        return kinds.get(details.method.rsplit("/", 1)[-1])

    def unary(self, message, context):
        told = dict(context.invocation_metadata())
        if code := told.get("x-code"):
            context.abort(getattr(grpc.StatusCode, code), "because: ünï%code")
        context.send_initial_metadata([("x-first", told.get("x-tell", ""))])
        context.set_trailing_metadata([("x-last-bin", bytes(range(256)))])
        return message

    def upload(self, messages, _):
        return json.dumps([len(message) for message in messages]).encode()

    def download(self, message, _):
        for number in range(int(message)):
            yield b"%d" % number

    def chat(self, messages, _):
        for message in messages:
            yield message

    def hang(self, _, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        self.begun.set()
        if ended.wait(PATIENCE_S):
            self.cancelled.set()
        return b""

    def hang_stream(self, message, context):
        yield b"begun"
        self.hang(message, context)


def server(stack, credentials=None):
    """With TLS if there are credentials."""
    calls = Calls()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=[calls], options=UNLIMITED)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    stack.callback(lambda: server.stop(0).wait())
    return calls, port


def credentials(certificates, name, of_clients):
    pair = [(certificates.read(f"{name}.key"), certificates.read(f"{name}.pem"))]
    if not of_clients:
        return grpc.ssl_server_credentials(pair)
    return grpc.ssl_server_credentials(pair, certificates.read("root.pem"), require_client_auth=True)


class Grpc:
    """A client's calls, each named by its method."""

    def __init__(self, reach, calls, host):
        self.channel = reach.channel(host)
        self.calls = calls

    def call(self, method, shape="unary_unary"):
        return getattr(self.channel, shape)(f"/peers.Calls/{method}")

    def unary(self):
        metadata = [("x-tell", "back")]
        reply, call = self.call("Unary").with_call(b"hello", metadata=metadata, timeout=PATIENCE_S)
        expect(b"hello", reply)
        expect("back", dict(call.initial_metadata())["x-first"])
        expect(bytes(range(256)), dict(call.trailing_metadata())["x-last-bin"])
        expect(grpc.StatusCode.OK, call.code())

    def client_stream(self):
        sizes = [(at * 997) % 50_000 for at in range(200)]
        reply = self.call("Upload", "stream_unary")((bytes(size) for size in sizes), timeout=PATIENCE_S)
        expect(sizes, json.loads(reply))

    def server_stream(self):
        replies = self.call("Download", "unary_stream")(b"2000", timeout=PATIENCE_S)
        expect([b"%d" % at for at in range(2000)], list(replies))

    def bidirectional(self):
        turns = iter(range(100))
        answered = threading.Semaphore(1)

        def messages():
            for turn in turns:
                answered.acquire()
                yield b"%d" % turn

        got = []
        for reply in self.call("Chat", "stream_stream")(messages(), timeout=PATIENCE_S):
            got.append(reply)
            answered.release()
        expect([b"%d" % at for at in range(100)], got)

    def big_message(self):
        content = random.Random(8).randbytes(16 * MIB)
        reply = self.call("Unary")(content, timeout=PATIENCE_S)
        expect(True, reply == content)

    def statuses(self):
        for code in ("NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "DATA_LOSS"):
            try:
                self.call("Unary")(b"", metadata=[("x-code", code)], timeout=PATIENCE_S)
            except grpc.RpcError as error:
                expect((code, "because: ünï%code"), (error.code().name, error.details()))
            else:
                raise AssertionError(f"{code} was lost")

    def unknown_method(self):
        expect("UNIMPLEMENTED", self.failure(lambda: self.call("Nothing")(b"", timeout=PATIENCE_S)))

    def deadline(self):
        self.calls.cancelled.clear()
        began = time.monotonic()
        expect("DEADLINE_EXCEEDED", self.failure(lambda: self.call("Hang")(b"", timeout=0.5)))
        expect(True, time.monotonic() - began < 5)
        expect(True, self.calls.cancelled.wait(5))

    def cancel_unary(self):
        self.calls.begun.clear()
        self.calls.cancelled.clear()
        future = self.call("Hang").future(b"")
        expect(True, self.calls.begun.wait(PATIENCE_S))
        future.cancel()
        expect(grpc.StatusCode.CANCELLED, future.code())
        expect(True, self.calls.cancelled.wait(5))

    def cancel_stream(self):
        self.calls.cancelled.clear()
        replies = self.call("HangStream", "unary_stream")(b"")
        expect(b"begun", next(replies))
        replies.cancel()
        expect("CANCELLED", self.failure(lambda: next(replies)))
        expect(True, self.calls.cancelled.wait(5))

    def many_at_once(self):
        futures = [self.call("Unary").future(b"%d" % at, timeout=PATIENCE_S) for at in range(300)]
        expect([b"%d" % at for at in range(300)], [future.result() for future in futures])

    @staticmethod
    def failure(act):
        try:
            act()
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def fails(reach, host, wanted):
    with reach.channel(host) as channel:
        call = channel.unary_unary("/peers.Calls/Unary")
        expect(wanted, Grpc.failure(lambda: call(b"", timeout=PATIENCE_S)))


CALLS = (
    "unary client_stream server_stream bidirectional big_message statuses unknown_method deadline "
    "cancel_unary cancel_stream many_at_once"
).split()


def scenes(stack, how, reach, calls, host):
    client = Grpc(reach, calls, host)
    stack.callback(client.channel.close)
    for name in CALLS:
        yield f"grpcio {name} {how}", getattr(client, name)
