"""How the SDK's requests leave: over httpcore, which httpx itself is built on.

What httpx adds (a request, an answer, URLs, cookies, redirects) an API of form fields and JSON has no use for; see
docs/decisions/0060-stripe-over-httpcore.md for what that saves.
"""

import ssl
from collections.abc import Mapping
from typing import Final

import httpcore
import httpx
import stripe

__all__ = ["Transport"]

# Also from one purchase to the next on a quiet day: a TLS handshake costs more than all the rest of a call.
_IDLE_SECONDS: Final = 60.0
_CONNECTIONS: Final = 100
_IDLE_CONNECTIONS: Final = 20


class Transport(stripe.HTTPClient):
    """Connections that are kept. No step of a call takes longer than `timeout` seconds."""

    name = "httpcore"

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(cafile=stripe.ca_bundle_path),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
        )
        self._extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """The body, status and headers of the answer. Raises the SDK's `APIConnectionError` when there was none."""
        target = httpcore.URL(url)
        sent = [(b"Host", _authority(target)), *((name.encode(), value.encode()) for name, value in headers.items())]
        body = None if post_data is None else post_data.encode()
        if body is not None:
            sent.append((b"Content-Length", str(len(body)).encode()))
        try:
            answer = await self._pool.request(
                method.upper(), target, headers=sent, content=body, extensions=self._extensions
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            message = f"Stripe could not be reached: {type(error).__name__}"
            raise stripe.APIConnectionError(message) from error  # type: ignore[no-untyped-call]
        return answer.content, answer.status, httpx.Headers(answer.headers)

    async def close_async(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()


def _authority(url: httpcore.URL) -> bytes:
    return url.host if url.port is None else b"%b:%d" % (url.host, url.port)
