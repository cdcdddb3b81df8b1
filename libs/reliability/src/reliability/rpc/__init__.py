"""gRPC between services: mutual TLS, access rules from the proto, deadlines, correlation and errors that cross."""

from reliability.rpc.client import IDEMPOTENCY_KEY, Tls, channel, invoke
from reliability.rpc.keys import key_set
from reliability.rpc.server import EVERYBODY, REPLAYED, Edge, build_server

__all__ = ["EVERYBODY", "IDEMPOTENCY_KEY", "REPLAYED", "Edge", "Tls", "build_server", "channel", "invoke", "key_set"]
