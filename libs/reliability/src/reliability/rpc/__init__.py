"""gRPC between services: mutual TLS, access rules from the proto, deadlines, correlation and errors that cross."""

from reliability.rpc.client import Tls, channel, invoke
from reliability.rpc.keys import key_set
from reliability.rpc.server import EVERYBODY, build_server

__all__ = ["EVERYBODY", "Tls", "build_server", "channel", "invoke", "key_set"]
