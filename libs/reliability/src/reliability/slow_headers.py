"""Uvicorn's HTTP protocol that does not wait for headers for ever: a line now and then would hold a connection.

Uvicorn bounds the pause between two requests and nothing within one (a "slowloris" has all the time there is). Bodies
are bounded where they are read, by the request's deadline.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reliability.one_packet import Together

__all__ = ["impatient"]

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.Config(http=...)` that answers 408 and closes when headers take longer than `seconds`."""
    return type("Impatient", (_Impatient,), {"seconds": seconds})


class _Impatient(HttpToolsProtocol):
    seconds: float
    _incomplete = False
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Together(transport))  # type: ignore[arg-type]  # does what a transport does
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._incomplete and self._waiting is None:  # most headers are there at once, and need no alarm
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incomplete = True

    def on_headers_complete(self) -> None:
        self._incomplete = False
        self._arrived()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.seconds, self._too_slow)

    def _arrived(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._wait()  # of a request that came early; the one before it is being answered
        elif not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
