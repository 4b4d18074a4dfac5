"""Ways to a server for clients that others wrote."""

import pathlib

import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Reach:
    """Where clients find a server: at a port of the proxy or the server itself."""

    def __init__(self, port, certificates=None, identity=None):
        self.port = port
        # The authority that clients trust.
        self.certificates = certificates
        # The files that they show a certificate from, without their kind.
        self.identity = identity

    @property
    def scheme(self):
        return "https" if self.certificates else "http"

    def context(self, *protocols):
        """What Python's own TLS needs; `None` for clear text."""
        if self.certificates is None:
            return None
        context = self.certificates.context_of_client()
        if protocols:
            context.set_alpn_protocols(protocols)
        if self.identity:
            context.load_cert_chain(f"{self.identity}.pem", f"{self.identity}.key")
        return context

    def channel(self, host):
        options = [*UNLIMITED, ("grpc.default_authority", host)]
        address = f"127.0.0.1:{self.port}"
        if self.certificates is None:
            return grpc.insecure_channel(address, options=options)
        chain = [None, None]
        if self.identity:
            chain = [pathlib.Path(f"{self.identity}.{kind}").read_bytes() for kind in ("key", "pem")]
        credentials = grpc.ssl_channel_credentials(self.certificates.read("root.pem"), *chain)
        options.append(("grpc.ssl_target_name_override", host))
        return grpc.secure_channel(address, credentials, options=options)

    def curl_options(self):
        if self.certificates is None:
            return []
        options = ["--cacert", self.certificates.path("root.pem")]
        if self.identity:
            options += ["--cert", f"{self.identity}.pem", "--key", f"{self.identity}.key"]
        return options
