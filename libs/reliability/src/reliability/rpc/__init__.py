"""gRPC between services: mutual TLS, access rules from the proto, deadlines, correlation and errors that cross."""

from reliability.rpc.audit import audit_log
from reliability.rpc.client import IDEMPOTENCY_KEY, channel, invoke
from reliability.rpc.incidents import incident_list
from reliability.rpc.keys import key_set
from reliability.rpc.revocations import revocation_list
from reliability.rpc.server import EVERYBODY, REPLAYED, Edge, build_server
from reliability.rpc.tls import Tls

__all__ = [
    "EVERYBODY",
    "IDEMPOTENCY_KEY",
    "REPLAYED",
    "Edge",
    "Tls",
    "audit_log",
    "build_server",
    "channel",
    "incident_list",
    "invoke",
    "key_set",
    "revocation_list",
]
