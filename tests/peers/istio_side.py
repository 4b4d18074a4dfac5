"""What Ringroad gets: Istio's documents."""

import json

import routes
import services
from documents import HOST, document


def istio_documents(listen, ports):
    """The documents as one text; JSON is YAML."""
    server = {
        "port": {"number": listen, "name": "http", "protocol": "HTTP"},
        "bind": "127.0.0.1",
        "hosts": ["*"],
    }
    log = {"accessLog": {"format": "JSON"}, "role": "gateway", "replayOnDeadConnection": False}
    documents = [document("ProxySettings", "proxy", log, "ringroad.dev/v1alpha1")]
    documents += [document("Gateway", "gate", {"servers": [server]})]
    for name, domain, http, _ in routes.hosts():
        documents.append(
            document("VirtualService", name, {"hosts": [domain], "gateways": ["gate"], "http": http})
        )
    port = {"number": 80, "name": "http", "protocol": "HTTP"}

    def endpoint(version):
        return {"address": "127.0.0.1", "ports": {"http": ports[version]}, "labels": {"version": version}}

    for name, host, versions in [("echo", HOST, ["v1", "v2", "v3"]), ("refused", "refused.internal", ["refused"])]:
        spec = {"hosts": [host], "ports": [port], "resolution": "STATIC"}
        spec["endpoints"] = [endpoint(version) for version in versions]
        documents.append(document("ServiceEntry", name, spec))
    subsets = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3", "none")]
    documents.append(document("DestinationRule", "echo", {"host": HOST, "subsets": subsets}))
    documents += services.istio_documents(ports)
    return "\n---\n".join(json.dumps(each, indent=1) for each in documents)
