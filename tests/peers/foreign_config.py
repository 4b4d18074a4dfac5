"""Documents for Ringroad between clients and servers that others wrote."""

GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate}
spec:
  servers:
"""
SERVER = """  - port: {number: %(port)d, name: port%(port)d, protocol: %(protocol)s}
    bind: 127.0.0.1
    hosts: ["*"]
"""
SERVICE = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %(name)s}
spec:
  hosts: [%(name)s.test]
  resolution: STATIC
  ports: [{number: 80, name: port, protocol: %(protocol)s}]
  endpoints: [{address: 127.0.0.1, ports: {port: %(port)d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %(name)s}
spec:
  hosts: [%(name)s.test]
  gateways: [gate]
  http:
  - route: [{destination: {host: %(name)s.test, port: {number: 80}}}]
"""
RULE = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %(name)s}
spec:
  host: %(name)s.test
  trafficPolicy: {%(policy)s}
"""
SETTINGS = """---
apiVersion: ringroad.dev/v1alpha1
kind: ProxySettings
metadata: {name: peers}
spec: {role: gateway%s}
"""


def gateway(servers):
    """Its ports, each HTTP, TCP or the mode of TLS that an HTTPS server has."""
    text = GATEWAY
    for port, kind in servers:
        by_tls = kind not in ("HTTP", "TCP")
        text += SERVER % {"port": port, "protocol": "HTTPS" if by_tls else kind}
        if by_tls:
            text += f"    tls: {{mode: {kind}, credentialName: gate}}\n"
    return text


def service(name, port, protocol="HTTP"):
    """`name.test`, its one endpoint, and the route to it."""
    return SERVICE % {"name": name, "port": port, "protocol": protocol}


def rule(name, policy):
    """What the proxy does on the way to `name.test`."""
    return RULE % {"name": name, "policy": policy}


def settings(more=""):
    return SETTINGS % more
