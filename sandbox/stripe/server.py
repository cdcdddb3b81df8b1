"""Uvicorn, with the connection within reach: some faults are done to the connection itself."""

import asyncio
import contextlib
import socket
import struct
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "sandbox.transport"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Protocol(HttpToolsProtocol):
    """Puts the transport of a request into its scope."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {_TRANSPORT: {"transport": self.transport}}
        self.scope["extensions"] = extensions


class Reset(Response):
    """An answer that never comes: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection and wait until it is gone, so that the server adds no answer of its own."""
        del send
        transport: asyncio.Transport = scope["extensions"][_TRANSPORT]["transport"]
        underlying: socket.socket | None = transport.get_extra_info("socket")
        if underlying is not None:
            underlying.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
        await _gone(receive)


class Hang(Reset):
    """An answer that never comes: the connection stays open until the client gives up, or the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the client to go, the time to be over, or the server to stop; then the connection is gone."""
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(self._seconds):
                await _gone(receive)
                return
        await super().__call__(scope, receive, send)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def build(app: ASGIApp, *, host: str, port: int, log_level: str) -> Server:
    """A server ready to run; its own access log is off, as every call is in the ledger."""
    return Server(
        Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            ws="none",
            lifespan="on",
            log_level=log_level,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
