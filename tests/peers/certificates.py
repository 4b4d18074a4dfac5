"""An authority of the peers' own and certificates from it, by the openssl program."""

import pathlib
import ssl
import subprocess


def openssl(*arguments, cwd):
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, timeout=30)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))


class Certificates:
    """A root, and a certificate with its key for each of `names`, in a folder."""

    def __init__(self, folder, names):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        openssl(*new, "-subj", "/CN=peers", "-keyout", "root.key", "-out", "root.pem", cwd=folder)
        for name, hosts in names.items():
            alternatives = ",".join(f"DNS:{host}" for host in hosts)
            extensions = ["-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=CA:FALSE"]
            signed = ["-CA", "root.pem", "-CAkey", "root.key", "-subj", f"/CN={name}", *extensions]
            openssl(*new, *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem", cwd=folder)

    def path(self, name):
        return str(self.folder / name)

    def read(self, name):
        return (self.folder / name).read_bytes()

    def context_of_client(self):
        return ssl.create_default_context(cafile=self.path("root.pem"))

    def context_of_server(self, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        return context

    def secret(self, name, credential):
        """The document that a Gateway's `credentialName` leads to."""

        def indented(file):
            return self.read(file).decode().strip().replace("\n", "\n    ")

        return (
            f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {credential}}}\nstringData:\n"
            f"  tls.crt: |\n    {indented(name + '.pem')}\n  tls.key: |\n    {indented(name + '.key')}\n"
            f"  ca.crt: |\n    {indented('root.pem')}\n"
        )
