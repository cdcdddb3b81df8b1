"""What every mailer must do, whoever delivers: the same suite for SMTP and for Resend."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.mailbox.faults import Fault
from services.notifications.mail.connections import SmtpServer
from services.notifications.mail.domain import Message, Rendered, Verdict
from services.notifications.mail.mailer import Mailer
from services.notifications.mail.resend import ResendMailer, ResendServer
from services.notifications.mail.smtp import SmtpMailer
from tests.integration.notifications.support import Mailbox, serve_mailbox

SENDER = "Holdfast <shop@holdfast.example>"
CAP = 1.5


@dataclass
class Post:
    """A mailer, the mailbox behind it, and the names its faults have here."""

    mailer: Mailer
    mailbox: Mailbox
    nowhere: Mailer
    refused: Fault
    later: Fault
    later_verdict: Verdict
    closed: list[Mailer] = field(default_factory=list)


def letter(number: int = 1, **changes: str) -> Message:
    return replace(
        Message(
            to=f"customer{number}@example.com",
            content=Rendered("Größe 🐕", "<p>Zoë</p>", "Zoë\n"),
            message_id=f"<{number}@holdfast.example>",
            correlation_id="flow-1",
            date=datetime(2026, 11, 24, tzinfo=UTC),
            name="Zoë, of <nowhere>",
        ),
        **changes,  # type: ignore[arg-type]
    )


@pytest_asyncio.fixture(loop_scope="session", params=["smtp", "resend"])
async def post(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Post]:
    """Each mailer in turn over the same mailbox."""
    async with serve_mailbox(tmp_path) as mailbox:
        mailers: list[Mailer]
        if request.param == "smtp":
            mailers = [
                SmtpMailer(SmtpServer("127.0.0.1", port), SENDER, connections=4, cap=CAP) for port in (mailbox.port, 1)
            ]
            made = Post(*(mailers[0], mailbox, mailers[1]), Fault.REJECT_550, Fault.REJECT_450, Verdict.TRY_LATER)
        else:
            mailers = [
                ResendMailer(ResendServer(f"http://127.0.0.1:{port}", "re_test"), SENDER, connections=4, cap=CAP)
                for port in (mailbox.http_port, 1)
            ]
            # A provider that says "slow down" speaks of our pace: such an attempt does not count.
            made = Post(*(mailers[0], mailbox, mailers[1]), Fault.HTTP_422, Fault.HTTP_429, Verdict.UNREACHABLE)
        yield made
        for mailer in mailers:
            await mailer.close()


async def test_a_mail_arrives_as_it_was_written(post: Post) -> None:
    """Any language, a name with marks in it, both parts, our headers."""
    calendar = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
    sent = letter(unsubscribe="https://shop.example/api/unsubscribe/t", calendar=calendar)
    assert (await post.mailer.send(sent)).verdict is Verdict.ACCEPTED
    (message,) = post.mailbox.messages()
    assert (message.to, message.subject) == (["customer1@example.com"], "Größe 🐕")
    assert (message.text.strip(), message.html.strip()) == ("Zoë", "<p>Zoë</p>")
    assert message.headers["Message-ID"] == "<1@holdfast.example>"
    assert message.correlation_id == "flow-1"
    assert message.headers["List-Unsubscribe"] == "<https://shop.example/api/unsubscribe/t>"
    assert message.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Zoë" in message.headers["To"]
    assert b"text/calendar" in (post.mailbox.store.raw(message.id) or b"")


async def test_a_refused_mail_is_refused_for_good(post: Post) -> None:
    """The server says no to this mail."""
    post.mailbox.order(post.refused)
    outcome = await post.mailer.send(letter())
    assert outcome.verdict is Verdict.REFUSED
    assert outcome.detail
    assert post.mailbox.messages() == []


async def test_not_now_is_not_never(post: Post) -> None:
    """The server says later; the next attempt arrives."""
    post.mailbox.order(post.later)
    assert (await post.mailer.send(letter())).verdict is post.later_verdict
    assert (await post.mailer.send(letter())).verdict is Verdict.ACCEPTED
    assert len(post.mailbox.messages()) == 1


async def test_nobody_there(post: Post) -> None:
    """Nothing listens: certainly not accepted."""
    assert (await post.nowhere.send(letter())).verdict is Verdict.UNREACHABLE


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER_DATA, Fault.SLOW])
async def test_an_answer_that_does_not_come_leaves_it_unknown(post: Post, fault: Fault) -> None:
    """The mail has arrived and its sender cannot know. Again: once more over SMTP, not at all where it is known."""
    post.mailbox.order(fault, seconds=CAP * 2)
    assert (await post.mailer.send(letter())).verdict is Verdict.UNKNOWN
    again = await post.mailer.send(letter())
    for _ in range(100):  # the first request may still be running where it is known
        if again.verdict is Verdict.ACCEPTED:
            break
        again = await post.mailer.send(letter())
        await asyncio.sleep(0.05)
    assert again.verdict is Verdict.ACCEPTED
    assert len(post.mailbox.messages()) == (1 if post.mailer.remembers else 2)


async def test_many_at_once(post: Post) -> None:
    """More mails than connections: each arrives once."""
    outcomes = await asyncio.gather(*(post.mailer.send(letter(number)) for number in range(9)))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.ACCEPTED}
    assert len(set(post.mailbox.recipients())) == len(post.mailbox.messages()) == 9


@pytest.mark.parametrize("field_", ["subject", "name"])
async def test_no_header_is_smuggled_in(post: Post, field_: str) -> None:
    """A line break in a name or a subject adds no recipient and no header, or the mail is not written at all."""
    evil = "Hello\r\nBcc: eve@example.com"
    content = Rendered(evil if field_ == "subject" else "Hello", "<p>x</p>", "x")
    message = replace(letter(name=evil if field_ == "name" else ""), content=content)
    with contextlib.suppress(ValueError):
        await post.mailer.send(message)
    for received in post.mailbox.messages():
        assert "Bcc" not in received.headers
        assert received.to == ["customer1@example.com"]


@pytest_asyncio.fixture(loop_scope="session")
async def resend(tmp_path: Path) -> AsyncIterator[tuple[ResendMailer, Mailbox]]:
    async with serve_mailbox(tmp_path) as mailbox:
        mailer = ResendMailer(
            ResendServer(f"http://127.0.0.1:{mailbox.http_port}", "re_test"), SENDER, connections=4, cap=CAP
        )
        yield mailer, mailbox
        await mailer.close()


async def test_a_batch_goes_out_once_under_its_key(resend: tuple[ResendMailer, Mailbox]) -> None:
    """A hundred mails, one request; the same again answers the same ids and sends nothing."""
    mailer, mailbox = resend
    packed = mailer.pack([letter(number) for number in range(100)])
    first = await mailer.ship("batch-1", packed)
    again = await mailer.ship("batch-1", packed)
    assert [outcome.verdict for outcome in first] == [Verdict.ACCEPTED] * 100
    assert first == again
    assert len({outcome.provider_id for outcome in first}) == 100
    assert len(mailbox.messages()) == 100


async def test_an_interrupted_batch_is_recognised(resend: tuple[ResendMailer, Mailbox]) -> None:
    """The answer was lost after everything was accepted: the identical batch gets it."""
    mailer, mailbox = resend
    mailbox.order(Fault.DROP_AFTER_DATA)
    packed = mailer.pack([letter(number) for number in range(10)])
    assert {outcome.verdict for outcome in await mailer.ship("batch-2", packed)} == {Verdict.UNKNOWN}
    assert {outcome.verdict for outcome in await mailer.ship("batch-2", packed)} == {Verdict.ACCEPTED}
    assert len(mailbox.messages()) == 10


async def test_one_bad_address_does_not_hold_up_the_others(resend: tuple[ResendMailer, Mailbox]) -> None:
    """Each mail of a batch has an outcome of its own."""
    mailer, mailbox = resend
    mailbox.order(Fault.HTTP_422, to="customer1@example.com")
    outcomes = await mailer.ship("batch-3", mailer.pack([letter(number) for number in range(3)]))
    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.ACCEPTED]
    assert mailbox.recipients() == ["customer0@example.com", "customer2@example.com"]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault.HTTP_403, Verdict.UNREACHABLE),
        (Fault.HTTP_429, Verdict.UNREACHABLE),
        (Fault.HTTP_500, Verdict.UNKNOWN),
    ],
)
async def test_what_an_error_says_of_a_mail(
    resend: tuple[ResendMailer, Mailbox], fault: Fault, verdict: Verdict
) -> None:
    """Our key and our pace say nothing of the mail; after an error of theirs nobody knows."""
    mailer, mailbox = resend
    mailbox.order(fault, times=2)
    assert (await mailer.send(letter())).verdict is verdict
    assert {outcome.verdict for outcome in await mailer.ship("k", mailer.pack([letter(2)]))} == {verdict}


async def test_another_batch_under_a_used_key_is_in_doubt(resend: tuple[ResendMailer, Mailbox]) -> None:
    """It must never happen; when it does, nothing is sent and nothing is believed."""
    mailer, mailbox = resend
    await mailer.ship("batch-4", mailer.pack([letter(1)]))
    (outcome,) = await mailer.ship("batch-4", mailer.pack([letter(2)]))
    assert outcome.verdict is Verdict.UNKNOWN
    assert "invalid_idempotent_request" in outcome.detail
    assert len(mailbox.messages()) == 1
