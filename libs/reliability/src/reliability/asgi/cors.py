"""Pages of other sites that may call us: those the settings name, and no others (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import functools
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["CrossOrigin"]

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ASKED: Final = ("Authorization", "Content-Type", "Idempotency-Key", "X-Correlation-ID", "traceparent")
_TOLD: Final = ("X-Correlation-ID", "Idempotent-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After")


class CrossOrigin:
    """Starlette's rules, also for the answers of the edge itself: an error that a page may not read helps nobody."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._rules = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_ASKED,
            expose_headers=_TOLD,
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a preflight of an origin we know; everything else goes on."""
        headers = Headers(scope=scope)
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if preflight and self._rules.is_allowed_origin(headers.get("origin", "")):
            await self._rules.preflight_response(headers)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def telling(self, scope: Scope, send: Send) -> Any:
        """`send`, with the headers that let the page read the answer."""
        headers = Headers(scope=scope)
        if not self._rules.is_allowed_origin(headers.get("origin", "")):
            return send
        return functools.partial(self._rules.send, send=send, request_headers=headers)
