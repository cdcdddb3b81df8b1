"""The SMTP mailer against servers that do one thing wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from pydantic_core import Url

from services.notifications.mail.connections import SmtpServer
from services.notifications.mail.domain import Message, Rendered, Verdict
from services.notifications.mail.smtp import SmtpMailer
from tests.integration.notifications.support import Mailbox

SENDER = "Holdfast <shop@holdfast.example>"


def message(text: str = "Hello\n", to: str = "ada@example.com") -> Message:
    content = Rendered("Subject", "<p>Hello</p>", text)
    return Message(to, content, "<1@holdfast.example>", "flow-1", datetime(2026, 11, 24, tzinfo=UTC))


@dataclass
class Server:
    """Says what it is told to, by the first word of the command; anything else is fine with it."""

    answers: dict[str, str] = field(default_factory=dict)
    hang_up_after: str = ""
    connections: int = 0
    commands: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._say(writer, "GREETING", "220 hello")
        while line := (await reader.readline()).decode().strip():
            self.commands.append(line)
            word = line.split()[0].upper()
            if self.hang_up_after == word:
                return
            answer = await self._say(writer, word, "354 go on" if word == "DATA" else "250 fine")
            if word == "QUIT":
                return
            if answer.startswith("354"):
                self.contents.append(await reader.readuntil(b"\r\n.\r\n"))
                if self.hang_up_after == "CONTENT":
                    return
                await self._say(writer, "CONTENT", "250 taken")

    async def _say(self, writer: asyncio.StreamWriter, word: str, usual: str) -> str:
        answer = self.answers.get(word, usual)
        writer.write(answer.encode() + b"\r\n")
        await writer.drain()
        return answer


@asynccontextmanager
async def running(server: Server, scheme: str = "smtp", cap: float = 2.0) -> AsyncIterator[SmtpMailer]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    mailer = SmtpMailer(SmtpServer.of(Url(f"{scheme}://127.0.0.1:{port}")), SENDER, connections=2, cap=cap)
    try:
        yield mailer
    finally:
        await mailer.close()
        listening.close()


@pytest.mark.parametrize(
    ("word", "answer", "verdict"),
    [
        ("MAIL", "451 not now", Verdict.TRY_LATER),
        ("MAIL", "550 not you", Verdict.REFUSED),
        ("MAIL", "530 log in first", Verdict.UNREACHABLE),
        ("RCPT", "421 closing", Verdict.TRY_LATER),
        ("RCPT", "450 greylisted", Verdict.TRY_LATER),
        ("RCPT", "550 no such user", Verdict.REFUSED),
        ("RCPT", "251 will forward", Verdict.ACCEPTED),
        ("DATA", "451 not now", Verdict.TRY_LATER),
        ("DATA", "554 no", Verdict.REFUSED),
        ("CONTENT", "250 taken", Verdict.ACCEPTED),
        ("CONTENT", "452 full", Verdict.TRY_LATER),
        ("CONTENT", "421 closing", Verdict.TRY_LATER),
        ("CONTENT", "552 too big", Verdict.REFUSED),
        ("CONTENT", "354 what?", Verdict.UNKNOWN),
        ("CONTENT", "garbage", Verdict.UNKNOWN),
        ("GREETING", "554 go away", Verdict.UNREACHABLE),
        ("GREETING", "421 busy", Verdict.UNREACHABLE),
        ("GREETING", "garbage", Verdict.UNREACHABLE),
        ("EHLO", "421 busy", Verdict.UNREACHABLE),
    ],
)
async def test_answers(word: str, answer: str, verdict: Verdict) -> None:
    """Each answer, at each step, is understood; only what came after the content can leave a doubt."""
    async with running(Server({word: answer})) as mailer:
        outcome = await mailer.send(message())
    assert outcome.verdict is verdict, outcome


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("EHLO", Verdict.UNREACHABLE),
        ("MAIL", Verdict.UNREACHABLE),
        ("RCPT", Verdict.UNREACHABLE),
        ("DATA", Verdict.UNREACHABLE),
        ("CONTENT", Verdict.UNKNOWN),
    ],
)
async def test_lost_connections(word: str, verdict: Verdict) -> None:
    """A connection lost before the content is no delivery; one lost after it may be."""
    async with running(Server(hang_up_after=word)) as mailer:
        assert (await mailer.send(message())).verdict is verdict


async def test_nobody_listens(unused_tcp_port: int) -> None:
    """A refused connection is no delivery."""
    mailer = SmtpMailer(SmtpServer("127.0.0.1", unused_tcp_port), SENDER, connections=1)
    assert (await mailer.send(message())).verdict is Verdict.UNREACHABLE


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_server_that_says_nothing() -> None:
    """Silence before the content ends at the cap and is no delivery."""
    silent = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent.serve = serve  # type: ignore[method-assign]
    async with running(silent, cap=0.2) as mailer:
        outcome = await mailer.send(message())
    assert outcome.verdict is Verdict.UNREACHABLE
    assert "Ran out of time" in outcome.detail


async def test_encryption_is_not_given_up() -> None:
    """A server that does not offer STARTTLS where we want it gets no mail and no password."""
    server = Server()
    async with running(server, "smtp+starttls") as mailer:
        assert (await mailer.send(message())).verdict is Verdict.UNREACHABLE
    assert [command.split()[0] for command in server.commands] == ["EHLO"]


async def test_no_tls_at_all_where_tls_is_wanted() -> None:
    """A plain server behind an smtps:// address gets nothing."""
    server = Server()
    async with running(server, "smtps", cap=1.0) as mailer:
        assert (await mailer.send(message())).verdict is Verdict.UNREACHABLE
    assert server.contents == []


async def test_a_connection_is_used_again() -> None:
    """Mails in a row share a connection; the server's refusals get a new one."""
    server = Server()
    async with running(server) as mailer:
        for _ in range(3):
            assert (await mailer.send(message())).verdict is Verdict.ACCEPTED
        assert server.connections == 1
        server.answers["RCPT"] = "550 no such user"
        assert (await mailer.send(message())).verdict is Verdict.REFUSED
        del server.answers["RCPT"]
        assert (await mailer.send(message())).verdict is Verdict.ACCEPTED
    assert server.connections == 2


async def test_no_more_connections_than_allowed() -> None:
    """Ten mails at once over two connections."""
    server = Server()
    async with running(server) as mailer:
        outcomes = await asyncio.gather(*(mailer.send(message()) for _ in range(10)))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.ACCEPTED}
    assert (server.connections, len(server.contents)) == (2, 10)


@pytest.mark.parametrize("goodbye", ["421 idle too long", ""], ids=["421", "hung up"])
async def test_a_connection_that_died_while_idle(goodbye: str) -> None:
    """A kept connection the server has given up is replaced at once; the mail does not notice."""
    server = Server()
    async with running(server) as mailer:
        await mailer.send(message())
        if goodbye:
            server.answers["MAIL"] = goodbye
        else:
            server.hang_up_after = "MAIL"
        mail = asyncio.create_task(mailer.send(message()))
        while server.commands.count("MAIL FROM:<shop@holdfast.example>") < 2:
            await asyncio.sleep(0)
        server.answers.clear()
        server.hang_up_after = ""
        assert (await mail).verdict is Verdict.ACCEPTED
    assert (server.connections, len(server.contents)) == (2, 2)


@pytest.mark.parametrize("text", [".\n..\n.x\n", "a\n.\n", "\n.\r\nMAIL FROM:<eve@example.com>\r\n"])
async def test_dots_do_not_end_a_mail(mailbox: Mailbox, text: str) -> None:
    """A line that begins with a dot arrives as it was, and is no command (RFC 5321, section 4.5.2)."""
    mailer = SmtpMailer(SmtpServer("127.0.0.1", mailbox.port), SENDER, connections=1)
    assert (await mailer.send(message(text))).verdict is Verdict.ACCEPTED
    await mailer.close()
    (received,) = mailbox.messages()
    assert received.text.splitlines() == text.splitlines()


async def test_cancelling_closes_the_connection(
    until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]],
) -> None:
    """A send that is cancelled leaves no half-used connection for the next mail."""
    server = Server({"CONTENT": "250-wait"})
    async with running(server) as mailer:
        sending = asyncio.create_task(mailer.send(message()))

        async def offered() -> bool:
            return len(server.contents) == 1

        await until(offered)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.answers.clear()
        assert (await mailer.send(message())).verdict is Verdict.ACCEPTED
    assert server.connections == 2
