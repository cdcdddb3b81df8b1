"""The HTTP edge: pure ASGI middleware and routes declared as a table."""

from reliability.asgi.auth import authenticator, refuse_foreign_origin
from reliability.asgi.endpoint import MAX_BODY, Access, Answer, Authenticate, Call, Endpoint, KeyRule, routes
from reliability.asgi.middleware import Edge

__all__ = [
    "MAX_BODY",
    "Access",
    "Answer",
    "Authenticate",
    "Call",
    "Edge",
    "Endpoint",
    "KeyRule",
    "authenticator",
    "refuse_foreign_origin",
    "routes",
]
