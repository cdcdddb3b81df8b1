"""An answer's head and body in one packet: ASGI servers write them one after the other, and a write is a system call.

Over loopback it is the whole way through both ends' TCP, and the reader wakes for a head that says nothing yet.
"""

import asyncio
from typing import Any

__all__ = ["Together"]


class Together:
    """A transport that holds a write until the next one, or until the turn of the loop is over, whichever comes first.

    So an answer whose body is there leaves at once and whole, and one whose body is yet to come tells its head now.
    What is written third is held again: no more than one write ever waits, and the transport's own limits hold.
    """

    __slots__ = ("_alarm", "_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._alarm: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """As a transport's."""
        if self._alarm is None:
            self._held = data
            self._alarm = self._loop.call_soon(self._send)
        else:
            self._send(data)

    def close(self) -> None:
        """As a transport's: what was written is sent first."""
        if self._alarm is not None:
            self._send()
        self._transport.close()

    def _send(self, *more: bytes) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        held, self._held = self._held, b""
        self._transport.writelines((held, *more))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
