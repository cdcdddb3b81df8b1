"""The HTTP edge: pure ASGI middleware and routes declared as a table."""

from reliability.asgi.auth import authenticator, refuse_foreign_origin
from reliability.asgi.endpoint import MAX_BODY, Access, Answer, Authenticate, Call, Endpoint, KeyRule, routes
from reliability.asgi.headers import PAGE_POLICY, SECURITY_HEADERS
from reliability.asgi.middleware import Edge
from reliability.asgi.perimeter import Perimeter

__all__ = [
    "MAX_BODY",
    "PAGE_POLICY",
    "SECURITY_HEADERS",
    "Access",
    "Answer",
    "Authenticate",
    "Call",
    "Edge",
    "Endpoint",
    "KeyRule",
    "Perimeter",
    "authenticator",
    "refuse_foreign_origin",
    "routes",
]
