"""A TCP proxy between a client and PostgreSQL, Redis or a peer, that makes the network misbehave on order.

It forwards until told otherwise. A fault may wait for a request whose bytes contain a text, `COMMIT` say: the
request still reaches the server, so that "done, but the reply was lost" is one line in a test.
"""

import asyncio
import contextlib
import math
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

__all__ = ["FaultProxy"]

_CHUNK = 65536


class _Link:
    """One client's connection and its twin to the server."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client, self.server = client, server
        self.loses_reply = False
        self.holds_reply = False
        self.half_open = False

    def lose_server(self) -> None:
        """Cuts the server's side; the client is not told, now or ever."""
        self.half_open = True
        self.server[1].transport.abort()

    def close(self) -> None:
        """Cuts both sides at once; what was not read yet is gone."""
        for _, writer in (self.client, self.server):
            writer.transport.abort()


class FaultProxy:
    """Listens on a port of its own on loopback and forwards to `host:port`.

    Use it as an async context manager. `port` is known inside of it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._news = asyncio.Condition()
        self._requests: list[bytes] = []
        self._refusals = 0.0
        self._delay = 0.0
        self._drop_at: bytes | None = None
        self._hang_at: bytes | None = None
        self._server: asyncio.Server | None = None
        self.port = 0

    @classmethod
    def before(cls, url: str) -> Self:
        """A proxy in front of the server in `url`. Raises `ValueError` for one without a host or a port."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            message = "the address needs a host and a port"
            raise ValueError(message)
        return cls(parts.hostname, parts.port)

    def through(self, url: str) -> str:
        """`url` with this proxy's port instead of the server's."""
        parts = urlsplit(url)
        credentials, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{'@' if credentials else ''}127.0.0.1:{self.port}"))

    async def __aenter__(self) -> Self:
        """Starts listening."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops listening and cuts every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def forward(self) -> None:
        """Ends every fault; what was held back arrives now."""
        self._refusals, self._delay, self._drop_at, self._hang_at = 0.0, 0.0, None, None
        for link in self._links:
            link.holds_reply = False
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Holds every reply back for `seconds`."""
        self._delay = seconds

    def drop_reply(self, at: bytes = b"") -> None:
        """Lets the next request that contains `at` through and cuts its connection instead of answering. Once."""
        self._drop_at = at

    def hang(self, at: bytes = b"") -> None:
        """Goes silent without closing: at once, or with the reply to the next request that contains `at`."""
        self._hang_at = at or None
        if not at:
            self._flowing.clear()

    def half_open(self) -> None:
        """Takes the server away from every open connection without a FIN or RST; new ones are welcome.

        As when its machine lost power, or a firewall forgot them: what clients send is swallowed, and no answer comes
        until they give up. `forward()` does not bring these back.
        """
        for link in tuple(self._links):
            link.lose_server()

    def cut(self) -> None:
        """Closes every open connection; new ones are welcome."""
        for link in tuple(self._links):
            link.close()

    def refuse(self, times: float = math.inf) -> None:
        """Closes every open connection, and the next `times` ones at once: the server is away, by default for good."""
        self._refusals = times
        self.cut()

    def count(self, text: bytes) -> int:
        """How often `text` was sent by clients so far."""
        return b"".join(self._requests).count(text)

    async def seen(self, text: bytes, times: int = 1) -> None:
        """Returns when clients have sent `text` so many times, and each has been passed on."""
        async with self._news:
            await self._news.wait_for(lambda: self.count(text) >= times)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusals > 0:
            self._refusals -= 1
            writer.transport.abort()
            return
        try:
            server = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        link = _Link((reader, writer), server)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(self._carry_requests(link), self._carry_replies(link))
        finally:
            link.close()
            self._links.discard(link)

    async def _carry_requests(self, link: _Link) -> None:
        while chunk := await link.client[0].read(_CHUNK):
            await self._flowing.wait()
            if link.half_open:
                continue
            self._arm(link, chunk)
            link.server[1].write(chunk)
            await link.server[1].drain()
            async with self._news:
                self._requests.append(chunk)
                self._news.notify_all()
        link.close()

    def _arm(self, link: _Link, chunk: bytes) -> None:
        """Finds out whether this is the request a fault was waiting for."""
        if self._drop_at is not None and self._drop_at in chunk:
            self._drop_at, link.loses_reply = None, True
        if self._hang_at is not None and self._hang_at in chunk:
            self._hang_at, link.holds_reply = None, True
            self._flowing.clear()

    async def _carry_replies(self, link: _Link) -> None:
        while chunk := await link.server[0].read(_CHUNK):
            if link.loses_reply:
                break
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            if link.half_open:
                return
            link.client[1].write(chunk)
            await link.client[1].drain()
        if not link.half_open:
            link.close()
