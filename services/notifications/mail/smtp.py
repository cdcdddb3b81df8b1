"""Sends over SMTP and knows, whatever happens, whether the server may have accepted the mail.

The line is the first byte of the mail's content: before it the server cannot have accepted anything; from there
on silence means that it may have. aiosmtplib's own `data()` draws no such line, so the two halves of DATA are
driven here.
"""

import re
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Final

import aiosmtplib

from reliability import deadline
from reliability.errors import DeadlineExceeded
from services.notifications.mail.connections import Connections, SmtpServer
from services.notifications.mail.domain import Message, Outcome, Verdict
from services.notifications.mail.mime import compose

__all__ = ["SmtpMailer"]

_SERVICE_CLOSING: Final = 421
_START_INPUT: Final = 354
# RFC 4954 and RFC 3207: these are about us and our settings, not about this mail.
_NOT_ABOUT_THIS_MAIL: Final = frozenset({530, 534, 535, 538})
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


class _Answered(Exception):
    """The server answered something else than yes."""

    def __init__(self, response: aiosmtplib.SMTPResponse) -> None:
        super().__init__(f"{response.code} {response.message}")
        self.code = response.code


@dataclass(slots=True)
class _Progress:
    """Whether the content has begun to leave."""

    offered: bool = False


class SmtpMailer:
    """A `Mailer` over SMTP, which remembers nothing: a mail that is sent twice arrives twice."""

    remembers = 0.0
    batches = None

    def __init__(
        self, server: SmtpServer, sender: str, *, connections: int, cap: float = deadline.EXTERNAL_CAP
    ) -> None:
        self._envelope_sender = parseaddr(sender)[1]
        self._connections = Connections(server, connections, name=self._envelope_sender.rpartition("@")[2])
        self._sender = sender
        self._cap = cap

    async def send(self, message: Message) -> Outcome:
        """See `Mailer`."""
        content = _LEADING_DOT.sub(b"..", compose(message, self._sender)) + b".\r\n"
        progress = _Progress()
        async with self._connections.slot():
            try:
                async with deadline.limit(self._cap, "smtp"):
                    return await self._send(message.to, content, progress)
            except _Answered as answer:
                return _refusal(answer)
            except (aiosmtplib.SMTPException, OSError, DeadlineExceeded) as error:
                verdict = Verdict.UNKNOWN if progress.offered else Verdict.UNREACHABLE
                return Outcome(verdict, f"{type(error).__name__}: {error}"[:500])

    async def close(self) -> None:
        """Closes idle connections."""
        await self._connections.close()

    async def _send(self, to: str, content: bytes, progress: _Progress) -> Outcome:
        client, used = await self._connections.take()
        try:
            return await self._exchange(client, to, content, progress)
        except (aiosmtplib.SMTPServerDisconnected, OSError, _Answered) as error:
            hung_up = not isinstance(error, _Answered) or error.code == _SERVICE_CLOSING
            if progress.offered or not (used and hung_up):
                raise
        # The server had hung up on an idle connection. Nothing has left yet: the mail may start over.
        return await self._exchange(await self._connections.fresh(), to, content, progress)

    async def _exchange(self, client: aiosmtplib.SMTP, to: str, content: bytes, progress: _Progress) -> Outcome:
        try:
            await self._offer(client, to)
            outcome = _verdict(await _transfer(client, content, progress))
        except BaseException:
            client.close()
            raise
        if outcome.verdict is Verdict.ACCEPTED:
            self._connections.keep(client)
        else:
            client.close()
        return outcome

    async def _offer(self, client: aiosmtplib.SMTP, to: str) -> None:
        """The envelope, up to the server's "go ahead"."""
        for command in (f"MAIL FROM:<{self._envelope_sender}>", f"RCPT TO:<{to}>"):
            response = await client.execute_command(command.encode("ascii"))
            if not 200 <= response.code < 300:
                raise _Answered(response)
        response = await client.execute_command(b"DATA")
        if response.code != _START_INPUT:
            raise _Answered(response)


async def _transfer(client: aiosmtplib.SMTP, content: bytes, progress: _Progress) -> aiosmtplib.SMTPResponse:
    """The content, and the server's answer to all of it."""
    if client.protocol is None:
        message = "Connection lost"
        raise aiosmtplib.SMTPServerDisconnected(message)
    client.protocol.write(content)
    progress.offered = True
    return await client.protocol.read_response()


def _verdict(response: aiosmtplib.SMTPResponse) -> Outcome:
    """What the answer to the content means (RFC 5321, section 4.2.1: the first digit decides)."""
    detail = f"{response.code} {response.message}"[:500]
    match response.code // 100:
        case 2:
            return Outcome(Verdict.ACCEPTED, detail)
        case 4:
            return Outcome(Verdict.TRY_LATER, detail)
        case 5:
            return Outcome(Verdict.REFUSED, detail)
        case _:
            return Outcome(Verdict.UNKNOWN, detail)


def _refusal(answer: _Answered) -> Outcome:
    """What an answer before the content means: nothing has been accepted."""
    detail = str(answer)[:500]
    if answer.code in _NOT_ABOUT_THIS_MAIL:
        return Outcome(Verdict.UNREACHABLE, detail)
    if answer.code // 100 == 5:
        return Outcome(Verdict.REFUSED, detail)
    return Outcome(Verdict.TRY_LATER, detail)
