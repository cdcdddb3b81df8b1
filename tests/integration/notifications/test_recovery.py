"""Failed mail recovers by itself, or somebody is told; with Resend an interrupted mail is simply asked for again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from reliability.errors import Unavailable
from sandbox.mailbox.faults import Fault
from services.notifications.mail import jobs as mail_jobs
from services.notifications.mail import metrics
from services.notifications.mail.jobs import SWEEP
from services.notifications.mail.resend import ResendMailer, ResendServer
from tests.integration.notifications.support import (
    STAFF,
    CrashingMailer,
    Mailbox,
    Office,
    confirmation,
    customer,
    marketing,
    serve_mailbox,
)


@pytest_asyncio.fixture(loop_scope="session")
async def resend(office: Office, tmp_path: Path) -> AsyncIterator[Mailbox]:
    """The office's mail goes out through Resend."""
    folder = tmp_path / "resend"
    folder.mkdir()
    async with serve_mailbox(folder) as mailbox:
        server = ResendServer(f"http://127.0.0.1:{mailbox.http_port}", "re_test")
        office.mailer.inner = ResendMailer(server, STAFF, connections=4, cap=2.0)
        yield mailbox
        await office.mailer.inner.close()


async def test_a_mail_whose_job_is_gone_is_found_by_the_sweep(office: Office) -> None:
    """The job was lost: five minutes after the mail was due it has another, and arrives once."""
    await office.stub.SendEmail(confirmation())
    await office.execute("DELETE FROM jobs WHERE kind = 'send_email'")
    await office.execute("UPDATE emails SET due_at = now() - interval '4 minutes'")
    await office.runtime.worker.trigger(SWEEP, wait=0)
    await office.work()
    assert office.mailbox.messages() == []
    await office.execute("UPDATE emails SET due_at = now() - interval '6 minutes'")
    for _ in range(2):
        await office.runtime.worker.trigger(SWEEP, wait=0)
    await office.work()
    assert len(office.mailbox.messages()) == 1
    assert [run["processed"] for run in await runs(office)] == [0, 1, 0]


async def test_the_sweep_leaves_a_mail_with_a_living_job_alone(office: Office) -> None:
    """A backlog is no loss: the extra job runs behind the first one and finds the mail sent."""
    await office.stub.SendEmail(confirmation())
    await office.execute("UPDATE emails SET due_at = now() - interval '6 minutes'")
    await office.runtime.worker.trigger(SWEEP, wait=0)
    await office.work()
    assert len(office.mailbox.messages()) == 1
    assert await office.rows("SELECT FROM jobs WHERE state NOT IN ('done')") == []


async def runs(office: Office) -> list[dict[str, object]]:
    return await office.rows("SELECT processed FROM job_runs WHERE job = $1 ORDER BY id", SWEEP)


async def test_the_age_of_the_queue_is_measured_by_every_worker(
    office: Office, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only by the one that sweeps: a worker that swept once would tell of an old mail for ever."""
    measured: list[float] = []
    monkeypatch.setattr(metrics.queue_age, "set", measured.append)
    office.mailbox.order(Fault.REJECT_450)
    await office.stub.SendEmail(confirmation())
    await office.work()
    await office.execute("UPDATE emails SET created_at = now() - interval '1 hour'")

    async def seen(condition: Callable[[float], bool]) -> None:
        measured.clear()
        stop = asyncio.Event()
        working = asyncio.create_task(office.runtime.worker.run(stop))

        async def measured_so() -> bool:
            return any(condition(age) for age in measured)

        await until(measured_so)
        stop.set()
        await working

    await seen(lambda age: age >= 3600)
    await office.execute("UPDATE emails SET state = 'failed', settled_at = now()")
    await seen(lambda age: age == 0)


@pytest.mark.parametrize("fault", [Fault.REJECT_550, Fault.REJECT_450], ids=["permanent", "out of attempts"])
async def test_staff_hear_once_of_mail_that_matters(office: Office, fault: Fault) -> None:
    """A confirmation that fails for good: one mail to staff, however often anybody comes by afterwards."""
    office.mailbox.order(fault, times=3, to="ada@example.com")
    await office.stub.SendEmail(confirmation())
    for _ in range(5):
        await office.work_later()
    (row,) = await office.rows("SELECT id, state, attempts FROM emails WHERE template = 'order_confirmation'")
    assert (row["state"], row["attempts"]) == ("failed", 1 if fault is Fault.REJECT_550 else 3)
    (told,) = office.mailbox.messages(STAFF)
    assert str(row["id"]) in told.text
    (incident,) = office.incidents
    assert (incident["key"], incident["kind"]) == (f"mail:{row['id']}", "critical_mail_failed")
    assert "ada@example.com" not in str(incident)


async def test_an_incident_waits_for_admin(office: Office) -> None:
    """Admin is away for more attempts than other jobs have: it is raised when admin is back, and once."""
    away = 12

    async def raise_incident(incident: Mapping[str, Any]) -> None:
        nonlocal away
        away -= 1
        if away >= 0:
            raise Unavailable
        office.incidents.append(incident)

    mail_jobs.raise_incidents(office.runtime.worker, raise_incident)
    office.mailbox.order(Fault.REJECT_550, times=1, to="ada@example.com")
    await office.stub.SendEmail(confirmation())
    for _ in range(15):
        await office.work_later()
    assert len(office.incidents) == 1


async def test_mail_that_does_not_matter_fails_in_silence(office: Office) -> None:
    """Nobody is woken for a newsletter."""
    await office.stub.RecordCustomerChanged(customer(1, email="ada@example.com"))
    office.mailbox.order(Fault.REJECT_550)
    await office.stub.SendEmail(marketing())
    await office.work()
    assert office.mailbox.messages(STAFF) == []
    assert (await office.email())["state"] == "failed"


async def test_a_notice_to_staff_that_fails_raises_no_notice(office: Office) -> None:
    """Otherwise a staff address that bounces would write mail for ever."""
    office.mailbox.order(Fault.REJECT_550, times=2)
    await office.stub.SendEmail(confirmation())
    await office.work()
    assert [row["state"] for row in await office.rows("SELECT state FROM emails ORDER BY id")] == ["failed", "failed"]


async def test_an_interrupted_mail_is_asked_for_again(office: Office, resend: Mailbox) -> None:
    """The worker dies after Resend accepted a marketing mail: the next one gets the same answer. One message."""
    await office.stub.RecordCustomerChanged(customer(1, email="ada@example.com"))
    real = office.mailer.inner
    office.mailer.inner = CrashingMailer(real, lambda _: True, after=True, remembers=real.remembers)
    await office.stub.SendEmail(marketing())
    await office.work()
    office.mailer.inner = real
    await office.recover()
    await office.work()
    row = await office.email()
    assert (row["state"], row["attempts"]) == ("sent", 2)
    assert row["provider_id"]
    assert len(resend.messages()) == 1


async def test_an_old_mail_is_not_asked_for_again(office: Office, resend: Mailbox) -> None:
    """After twenty hours the key may be forgotten soon: marketing in doubt stays unknown."""
    await office.stub.RecordCustomerChanged(customer(1, email="ada@example.com"))
    resend.order(Fault.HTTP_500)
    await office.stub.SendEmail(marketing())
    await office.work()
    assert (await office.email())["state"] == "retrying"
    await office.execute("UPDATE emails SET state = 'sending', created_at = now() - interval '20 hours'")
    await office.work_later()
    assert (await office.email())["state"] == "unknown"
    assert resend.messages() == []


async def test_a_provider_that_is_down_for_long_loses_nothing(office: Office, resend: Mailbox) -> None:
    """Six errors of theirs, then a good answer: sent, once; more than three attempts, because none was an answer."""
    resend.order(Fault.HTTP_500, times=6)
    await office.stub.SendEmail(confirmation())
    for _ in range(8):
        await office.work_later()
    assert (await office.email())["state"] == "sent"
    assert len(resend.messages()) == 1


async def test_words_are_forgotten_and_keys_kept(office: Office) -> None:
    """A month after a mail was sent its links are gone from our tables; its key still answers."""
    first = await office.stub.SendEmail(confirmation())
    await office.work()
    await office.execute("UPDATE emails SET settled_at = now() - interval '31 days'")
    await office.runtime.worker.trigger("purge_emails", wait=0)
    await office.work()
    row = await office.email()
    assert (row["html"], row["text"], row["data"]) == ("", "", {})
    assert (await office.stub.SendEmail(confirmation())).email_id == first.email_id
    assert len(office.mailbox.messages()) == 1
    await office.execute("UPDATE emails SET settled_at = now() - interval '401 days'")
    await office.runtime.worker.trigger("purge_emails", wait=0)
    await office.work()
    assert (await office.counts())["emails"] == 0
