"""SMTP connections that are kept for the next mail."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote

import aiosmtplib
from pydantic_core import Url

__all__ = ["Connections", "SmtpServer"]

# Shorter than the idle timeout of any server we know of; RFC 5321 asks for five minutes.
_IDLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail goes out."""

    host: str
    port: int
    implicit_tls: bool = False
    starttls: bool = False
    username: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: Url) -> Self:
        """`smtp://`, `smtp+starttls://` or `smtps://`, with `user:password@` where the server wants it."""
        default = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}[url.scheme]
        return cls(
            host=(url.host or "").strip("[]"),
            port=url.port or default,
            implicit_tls=url.scheme == "smtps",
            starttls=url.scheme == "smtp+starttls",
            username=url.username and unquote(url.username),
            password=url.password and unquote(url.password),
        )

    def client(self, name: str) -> aiosmtplib.SMTP:
        """A client that is not connected yet and will call itself `name`.

        Timeouts are its user's: one clock for the whole exchange.
        """
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.implicit_tls,
            start_tls=self.starttls,
            local_hostname=name,
            timeout=None,
        )


class Connections:
    """At most `size` connections at once; idle ones are used again for a while."""

    def __init__(self, server: SmtpServer, size: int, *, name: str) -> None:
        self._server = server
        self._name = name
        self._slots = asyncio.Semaphore(size)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits until one of the connections may be used."""
        async with self._slots:
            yield

    async def take(self) -> tuple[aiosmtplib.SMTP, bool]:
        """A connection, and whether it was used before: such a one may have died without our knowing."""
        while self._idle:
            client, since = self._idle.pop()
            if client.is_connected and time.monotonic() - since < _IDLE_SECONDS:
                return client, True
            client.close()
        return await self.fresh(), False

    async def fresh(self) -> aiosmtplib.SMTP:
        """A new connection: connected, encrypted and logged in as the server's address asks for."""
        client = self._server.client(self._name)
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except BaseException:
            client.close()
            raise
        return client

    def keep(self, client: aiosmtplib.SMTP) -> None:
        """Gives back a connection that is between two mails."""
        if client.is_connected:
            self._idle.append((client, time.monotonic()))

    async def close(self) -> None:
        """Says goodbye on every idle connection, for a second at most."""
        idle, self._idle = self._idle, []
        for client, _ in idle:
            try:
                async with asyncio.timeout(1):
                    await client.quit()
            except (aiosmtplib.SMTPException, OSError, TimeoutError):
                client.close()
