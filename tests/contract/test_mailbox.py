"""What the mailbox promises to those who send to it and those who read it."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import httpx
import pytest
import pytest_asyncio

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Mailbox:
    """A mailbox process and how to talk to it."""

    http: httpx.AsyncClient
    smtp_port: int
    process: asyncio.subprocess.Process

    async def send(self, *to: str, timeout: float = 5, **fields: str) -> str:
        """The reply to the message as a whole."""
        _, reply = await aiosmtplib.send(
            letter(*to, **fields), hostname=HOST, port=self.smtp_port, start_tls=False, timeout=timeout
        )
        return reply

    async def messages(self, **filters: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/messages", params=filters)
        assert answer.status_code == 200
        found: list[dict[str, Any]] = answer.json()
        return found

    async def order(self, fault: str, **fields: Any) -> None:
        assert (await self.http.post("/faults", json={"fault": fault, **fields})).status_code == 201


def letter(
    *to: str,
    subject: str = "Hello",
    text: str = "Plain words",
    html: str = "<p>Rich words</p>",
    correlation: str = "c1",
) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Shop <shop@example.com>", ", ".join(to), subject
    mail["X-Correlation-ID"] = correlation
    mail.set_content(text)
    mail.add_alternative(html, subtype="html")
    return mail


@asynccontextmanager
async def started(state: Path) -> AsyncIterator[Mailbox]:
    port, smtp_port = free_port(), free_port()
    environment = {**os.environ, "HTTP_PORT": str(port), "SMTP_PORT": str(smtp_port), "STATE_FILE": str(state)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sandbox.mailbox", env=environment)
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}") as http:
        try:
            await answering(http)
            yield Mailbox(http, smtp_port, process)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def answering(http: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + 20
    while True:
        with suppress(httpx.TransportError):
            if (await http.get("/livez")).status_code == 200:
                return
        assert time.monotonic() < deadline, "the mailbox did not start"
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mailbox]:
    async with started(tmp_path_factory.mktemp("mailbox") / "state" / "mail.db") as mailbox:
        yield mailbox


@pytest_asyncio.fixture(loop_scope="session")
async def mailbox(running: Mailbox) -> Mailbox:
    """An empty mailbox in which nothing goes wrong."""
    await running.http.delete("/messages")
    await running.http.delete("/faults")
    return running


async def test_a_message_is_shown_as_it_was_sent(mailbox: Mailbox) -> None:
    """Envelope, headers and both bodies come through, beyond ASCII too."""
    await mailbox.send("ann@example.com", subject="Grüße, 猫", text="Für dich", html="<p>Für dich: <b>猫</b></p>")
    (message,) = await mailbox.messages()
    assert message["from"] == "shop@example.com"
    assert message["to"] == ["ann@example.com"]
    assert message["subject"] == message["headers"]["Subject"] == "Grüße, 猫"
    assert message["headers"]["X-Correlation-ID"] == message["correlation_id"] == "c1"
    assert (message["text"].strip(), message["html"].strip()) == ("Für dich", "<p>Für dich: <b>猫</b></p>")
    assert message["received_at"].endswith("Z")
    assert (await mailbox.http.get(f"/messages/{message['id']}")).json() == message
    assert "Subject: =?utf-8?" in (await mailbox.http.get(f"/messages/{message['id']}/raw")).text


async def test_newest_first_and_filtered(mailbox: Mailbox) -> None:
    """Filters by recipient (in any case), part of the subject and correlation id narrow the list, also together."""
    await mailbox.send("ann@example.com", subject="First order", correlation="c1")
    await mailbox.send("bob@example.com", "eve@example.com", subject="Second order", correlation="c2")
    await mailbox.send("ann@example.com", subject="Third", correlation="c2")

    async def subjects(**filters: str) -> list[str]:
        return [message["subject"] for message in await mailbox.messages(**filters)]

    assert await subjects() == ["Third", "Second order", "First order"]
    assert await subjects(to="ANN@example.com") == ["Third", "First order"]
    assert await subjects(to="eve@example.com") == ["Second order"]
    assert await subjects(to="ann") == []
    assert await subjects(subject="ORDER") == ["Second order", "First order"]
    assert await subjects(correlation_id="c2") == ["Third", "Second order"]
    assert await subjects(correlation_id="c2", to="ann@example.com") == ["Third"]
    assert await subjects(limit="1") == ["Third"]


async def test_deleted_is_gone(mailbox: Mailbox) -> None:
    """After DELETE the mailbox is empty, and a message that was there is 404."""
    await mailbox.send("ann@example.com")
    (message,) = await mailbox.messages()
    assert (await mailbox.http.delete("/messages")).json() == {"deleted": 1}
    assert await mailbox.messages() == []
    for view in ("", "/html", "/raw"):
        assert (await mailbox.http.get(f"/messages/{message['id']}{view}")).status_code == 404


async def test_acknowledged_mail_survives_a_kill(tmp_path: Path) -> None:
    """What was answered 250 is there after kill -9, in order."""
    async with started(tmp_path / "mail.db") as first:
        for number in range(5):
            await first.send("ann@example.com", subject=str(number))
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    async with started(tmp_path / "mail.db") as second:
        assert [message["subject"] for message in await second.messages()] == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("reject_421", 421),
        ("reject_450", 450),
        ("reject_550", 550),
        ("reject_data_451", 451),
        ("reject_data_554", 554),
    ],
)
async def test_a_rejected_mail_is_not_there(mailbox: Mailbox, fault: str, code: int) -> None:
    """The reply is the one ordered, nothing is stored, and the order is used up."""
    await mailbox.order(fault)
    with pytest.raises(aiosmtplib.SMTPException) as refused:
        await mailbox.send("ann@example.com")
    error = refused.value
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    assert isinstance(error, aiosmtplib.SMTPResponseException)
    assert error.code == code
    assert await mailbox.messages() == []
    await mailbox.send("ann@example.com")
    assert len(await mailbox.messages()) == 1


async def test_421_closes_the_connection(mailbox: Mailbox) -> None:
    """The server is going away: the next command on that connection fails."""
    await mailbox.order("reject_421")
    client = aiosmtplib.SMTP(hostname=HOST, port=mailbox.smtp_port, start_tls=False, timeout=5)
    await client.connect()
    await client.mail("shop@example.com")
    with pytest.raises(aiosmtplib.SMTPRecipientRefused):
        await client.rcpt("ann@example.com")
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await client.noop()


@pytest.mark.parametrize(("fault", "stored"), [("drop_before_data", 0), ("drop_after_data", 1)])
async def test_a_dropped_connection_tells_the_sender_nothing(mailbox: Mailbox, fault: str, stored: int) -> None:
    """Both look the same to the sender, but after the data the message is there: the ambiguous case."""
    await mailbox.order(fault)
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await mailbox.send("ann@example.com")
    assert len(await mailbox.messages()) == stored
    await mailbox.send("ann@example.com")
    assert len(await mailbox.messages()) == stored + 1


async def test_a_slow_answer_comes_after_the_message_is_stored(mailbox: Mailbox) -> None:
    """A sender that loses patience has sent its mail all the same."""
    await mailbox.order("slow", seconds=30)
    with pytest.raises(aiosmtplib.SMTPTimeoutError):
        await mailbox.send("ann@example.com", timeout=0.3)
    assert len(await mailbox.messages()) == 1


async def test_a_fault_hits_only_whom_it_is_meant_for_and_as_often(mailbox: Mailbox) -> None:
    """With `to` and `times`: the others get their mail, and after the last time so does everybody."""
    await mailbox.order("reject_550", to="ann@example.com", times=2)
    for left in (1, 0):
        await mailbox.send("bob@example.com")
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await mailbox.send("ann@example.com")
        assert [order["times"] for order in (await mailbox.http.get("/faults")).json()] == [left] * bool(left)
    await mailbox.send("ann@example.com")
    assert len(await mailbox.messages(to="ann@example.com")) == 1
    assert len(await mailbox.messages(to="bob@example.com")) == 2


async def test_one_refused_recipient_does_not_cost_the_others_their_mail(mailbox: Mailbox) -> None:
    """Of two recipients one is refused: the message is there, for the other only."""
    await mailbox.order("reject_550", to="ann@example.com")
    await mailbox.send("ann@example.com", "bob@example.com")
    (message,) = await mailbox.messages()
    assert message["to"] == ["bob@example.com"]


@pytest.mark.parametrize(
    "order", ["{", "{}", '{"fault": "no_such"}', '{"fault": "slow", "times": 0}', '{"fault": "slow", "typo": 1}']
)
async def test_a_fault_that_does_not_exist_is_refused(mailbox: Mailbox, order: str) -> None:
    """A mistyped order would be a test that tests nothing."""
    assert (await mailbox.http.post("/faults", content=order)).status_code == 422
    assert (await mailbox.http.get("/faults")).json() == []


async def test_the_page_runs_nothing_that_came_by_mail(mailbox: Mailbox) -> None:
    """HTML of a mail is shown in a sandbox; the page loads nothing from elsewhere."""
    await mailbox.send("ann@example.com", html="<html><head></head><body><script>alert(1)</script></body></html>")
    (message,) = await mailbox.messages()
    shown = await mailbox.http.get(f"/messages/{message['id']}/html")
    assert "sandbox" in shown.headers["content-security-policy"]
    assert "allow-scripts" not in shown.headers["content-security-policy"]
    assert '<head><base target="_blank"></head>' in shown.text
    for path, kind in {"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}.items():
        answer = await mailbox.http.get(path)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]


async def test_a_missing_setting_is_named() -> None:
    """Without its environment the mailbox does not start, and says what it needs."""
    environment = {name: value for name, value in os.environ.items() if name not in {"HTTP_PORT", "SMTP_PORT"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox.mailbox", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 78
    assert all(name in said.decode() for name in ("HTTP_PORT", "SMTP_PORT", "STATE_FILE"))
