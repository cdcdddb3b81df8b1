"""A worker that dies or drains between any two steps: the mail is accounted for, and sent again at most once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from reliability import jobs
from reliability.errors import Unavailable
from sandbox.mailbox.faults import Fault
from services.notifications.mail import repository
from services.notifications.mail.domain import EmailState, Outcome, Verdict
from tests.integration.notifications.support import (
    CrashingMailer,
    Office,
    confirmation,
    customer,
    marketing,
)


def crash(office: Office, *, after: bool) -> None:
    """From now on the process dies at each send, before or after the server got the mail."""
    office.mailer.inner = CrashingMailer(office.mailer.inner, lambda _: True, after)


def revive(office: Office) -> None:
    """The next process: its mailer works."""
    assert isinstance(office.mailer.inner, CrashingMailer)
    office.mailer.inner = office.mailer.inner.inner


@pytest.mark.parametrize("after", [False, True], ids=["before the server got it", "after the server got it"])
async def test_an_interrupted_mail_is_resent_once(office: Office, after: bool) -> None:
    """Nobody can tell the two apart afterwards: one resend under the same Message-ID, then unknown."""
    await office.stub.SendEmail(confirmation())
    crash(office, after=after)
    await office.work()
    assert (await office.email())["state"] == "sending"

    await office.recover()
    await office.work()  # dies a second time
    email = await office.email()
    assert (email["state"], email["attempts"], email["ambiguous"]) == ("sending", 2, 1)

    revive(office)
    await office.recover()
    await office.work()
    assert (await office.email())["state"] == "unknown"
    messages = office.mailbox.messages()
    assert len(messages) == (2 if after else 0)
    assert {message.headers["Message-ID"] for message in messages} <= {email["message_id"]}


async def test_one_crash_costs_nobody_a_confirmation(office: Office) -> None:
    """The worker dies before the server got the mail; the next one delivers it, once."""
    await office.stub.SendEmail(confirmation())
    crash(office, after=False)
    await office.work()
    revive(office)
    await office.recover()
    await office.work()
    assert (await office.email())["state"] == "sent"
    assert len(office.mailbox.messages()) == 1


async def test_interrupted_marketing_is_unknown(office: Office) -> None:
    """Marketing that was on its way when the worker died is never sent again."""
    await office.stub.RecordCustomerChanged(customer(email="ada@example.com"))
    await office.stub.SendEmail(marketing())
    crash(office, after=False)
    await office.work()
    revive(office)
    await office.recover()
    await office.work()
    assert (await office.email())["state"] == "unknown"
    assert office.mailbox.messages() == []


async def test_a_job_that_runs_again_finds_the_work_done(office: Office) -> None:
    """The same job delivered a second time sends nothing."""
    await office.stub.SendEmail(confirmation())
    await office.work()
    await office.execute("UPDATE jobs SET state = 'queued', finished_at = NULL")
    assert await office.work() == 1
    assert len(office.mailbox.messages()) == 1
    assert (await office.email())["attempts"] == 1


async def test_a_drain_lets_the_mail_on_its_way_arrive(
    office: Office, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    """SIGTERM while the server is thinking: the worker waits for the answer and writes it down."""
    office.mailbox.order(Fault.SLOW, seconds=0.5)
    await office.stub.SendEmail(confirmation())
    stop = asyncio.Event()
    working = asyncio.create_task(office.runtime.worker.run(stop))

    async def arrived() -> bool:
        return bool(office.mailbox.messages())

    await until(arrived)
    assert (await office.email())["state"] == "sending"
    stop.set()
    await working
    assert (await office.email())["state"] == "sent"
    assert [row["state"] for row in await office.rows("SELECT state FROM jobs WHERE kind = 'send_email'")] == ["done"]


async def test_a_parked_job_ends_its_mail(office: Office) -> None:
    """When the job itself runs out of attempts, its mail does not stay open: on its way means unknown."""
    await office.stub.SendEmail(confirmation())
    await office.execute("UPDATE jobs SET max_attempts = 1")
    crash(office, after=True)
    await office.work()
    await office.recover()
    assert (await office.email())["state"] == "unknown"
    async with office.runtime.database.connection() as connection:
        assert await jobs.count_dead_letters(connection) == 1


async def test_a_parked_job_fails_a_mail_that_never_left(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail whose job always fails before sending has failed, and its dead letter says so."""
    await office.stub.SendEmail(confirmation())
    await office.execute("UPDATE jobs SET max_attempts = 1")

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("services.notifications.mail.repository.begin_fresh", broken)
    await office.work()
    email = await office.email()
    assert (email["state"], email["attempts"]) == ("failed", 0)
    assert "broken" in email["last_error"]


async def test_a_database_away_for_a_moment_forgets_no_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server took the mail, and just then the database is away: the answer is written down when it is back."""
    failures = 2
    inner = repository.sent

    async def flaky(*arguments: Any) -> bool:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("away", retry_after=0.01)
        return await inner(*arguments)

    monkeypatch.setattr(repository, "sent", flaky)
    await office.stub.SendEmail(confirmation())
    await office.work()
    assert failures == 0
    assert (await office.email())["state"] == "sent"
    assert len(office.mailbox.messages()) == 1


async def test_a_worker_that_lost_its_lease_writes_nothing(office: Office) -> None:
    """A worker that hung while another took its job over does not speak for the other's attempt."""
    await office.stub.SendEmail(confirmation())
    crash(office, after=False)
    await office.work()
    before = await office.email()
    await office.execute("UPDATE emails SET attempts = 2, ambiguous = 1")
    async with office.runtime.database.transaction() as connection:
        stored = await repository.lock(connection, str(before["id"]))
        assert stored is not None
        stale = replace(stored.attempt(0, remembered=False), number=1)
        written = await repository.record(connection, stale, Outcome(Verdict.REFUSED, "late"), EmailState.FAILED)
    assert not written
    assert (await office.email())["state"] == "sending"
