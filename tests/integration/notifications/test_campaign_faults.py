"""Servers refuse, hesitate or vanish, and workers die: nobody gets a campaign twice, and everybody is counted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability import jobs
from reliability.errors import Problem, Unavailable
from reliability.postgres import Database
from sandbox.mailbox.faults import Fault
from services.notifications.campaigns import repository
from services.notifications.campaigns.domain import Batch, RecipientState
from services.notifications.campaigns.sending import WINDOW
from tests.integration.notifications.support import CrashingMailer, Office, customer, later

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.mark.parametrize(
    ("fault", "state", "messages"),
    [
        (Fault.REJECT_550, "failed", 0),
        (Fault.REJECT_DATA_554, "failed", 0),
        (Fault.DROP_AFTER_DATA, "unknown", 1),
        (Fault.SLOW, "unknown", 1),
    ],
)
async def test_final_answers(office: Office, fault: Fault, state: str, messages: int) -> None:
    """A refused recipient has failed, one without an answer is unknown; neither is tried again, the others arrive."""
    await office.customers(10)
    office.mailbox.order(fault, to="customer3@example.com", seconds=600)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 9, state: 1}
    assert await office.work_later() == 0
    assert len(office.mailbox.messages("customer3@example.com")) == messages
    assert len(office.mailbox.messages()) == 9 + messages


async def test_whom_a_campaign_did_not_reach_is_listed(office: Office) -> None:
    """Failed and unknown, page by page, with what the server said; who has the mail is not there."""
    await office.customers(10)
    office.mailbox.order(Fault.DROP_AFTER_DATA, to="customer2@example.com")
    office.mailbox.order(Fault.REJECT_550, to="customer4@example.com")
    office.mailbox.order(Fault.DROP_AFTER_DATA, to="customer9@example.com")
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()

    async def page(**query: Any) -> pb.ListUndeliveredResponse:
        request = pb.ListUndeliveredRequest(campaign_id=campaign, **query)
        return cast("pb.ListUndeliveredResponse", await office.stub.ListUndelivered(request))

    first = await page(limit=2)
    rest = await page(limit=2, cursor=first.next_cursor)
    assert [(item.email, item.state) for item in (*first.items, *rest.items)] == [
        ("customer2@example.com", "unknown"),
        ("customer4@example.com", "failed"),
        ("customer9@example.com", "unknown"),
    ]
    assert not rest.HasField("next_cursor")
    assert first.items[1].last_error.startswith("550 ")
    unknown = await page(state="unknown")
    assert [item.email for item in unknown.items] == ["customer2@example.com", "customer9@example.com"]
    with pytest.raises(Problem, match="campaign"):
        await office.stub.ListUndelivered(pb.ListUndeliveredRequest(campaign_id="none"))
    with pytest.raises(Problem) as caught:
        await page(state="sent")
    assert caught.value.status == 422


@pytest.mark.parametrize("fault", [Fault.REJECT_421, Fault.REJECT_450, Fault.REJECT_DATA_451])
async def test_later_is_tried_later(office: Office, fault: Fault) -> None:
    """A "later" holds up neither its batch nor the next; the campaign is finished when it went out."""
    await office.customers(20)
    # Twice: a 421 on a connection that had rested is a goodbye, and the mail goes out on another one at once.
    office.mailbox.order(fault, to="customer1@example.com", times=2)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    assert await office.stats(campaign) == {"status": "sending", "queued": 1, "sent": 19}
    await office.work_later()
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(office.mailbox.messages()) == 20


async def test_three_laters_are_a_no(office: Office) -> None:
    """A recipient is given up after three attempts."""
    await office.customers(1)
    office.mailbox.order(Fault.REJECT_450, times=10)
    campaign = await office.draft()
    await office.send(campaign)
    for run in (office.work, office.work_later, office.work_later):
        assert (await office.stats(campaign)).get("queued") == 1
        await run()
    assert await office.stats(campaign) == {"status": "finished", "failed": 1}
    assert await office.work_later() == 0


async def test_a_server_that_is_away_is_waited_for(office: Office) -> None:
    """While there is no server a campaign stands still; it costs nobody an attempt, and goes on afterwards."""
    await office.customers(30)
    office.mailbox.order(Fault.DROP_BEFORE_DATA, times=60)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    for _ in range(3):
        await office.work_later()
        assert await office.stats(campaign) == {"status": "sending", "queued": 30}
    office.mailbox.faults.clear()
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 30}
    assert len(office.mailbox.messages()) == 30


@pytest.mark.parametrize("after", [False, True], ids=["before the server got it", "after the server got it"])
async def test_a_crash_in_the_middle(office: Office, after: bool) -> None:
    """The worker dies with mails on their way: they are unknown and counted, everybody else gets exactly one."""
    await office.customers(20)
    campaign = await office.draft()
    await office.send(campaign)
    real = office.mailer.inner
    office.mailer.inner = CrashingMailer(real, lambda message: message.to == "customer9@example.com", after)
    await office.work()
    office.mailer.inner = real
    await office.recover()
    await office.work()

    stats = await office.stats(campaign)
    assert stats["status"] == "finished"
    assert 1 <= stats["unknown"] <= WINDOW
    assert stats["sent"] == 20 - stats["unknown"]
    assert len(office.mailbox.recipients()) == len(set(office.mailbox.recipients()))
    unknown = await office.rows("SELECT email FROM campaign_recipients WHERE state = 'unknown'")
    assert "customer9@example.com" in {row["email"] for row in unknown}
    # Who is not listed as unknown has it.
    expected = {f"customer{n}@example.com" for n in range(1, 21)} - {row["email"] for row in unknown}
    assert expected <= set(office.mailbox.recipients())


async def test_a_drain_leaves_nobody_unknown(office: Office, until: Until) -> None:
    """SIGTERM in the middle of a campaign: what is on its way arrives, the rest stays queued for the next worker."""
    await office.customers(40)
    office.mailbox.order(Fault.SLOW, seconds=0.3, to="customer8@example.com")
    campaign = await office.draft()
    await office.send(campaign)
    stop = asyncio.Event()
    working = asyncio.create_task(office.runtime.worker.run(stop))

    async def arrived() -> bool:
        return bool(office.mailbox.messages("customer8@example.com"))

    await until(arrived)
    stop.set()
    await working
    stats = await office.stats(campaign)
    assert "unknown" not in stats
    assert stats["queued"] > 0
    assert len(office.mailbox.messages()) == stats["sent"]
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 40}
    assert len(office.mailbox.messages()) == 40


async def test_a_database_away_for_a_moment_forgets_no_answer(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mails are out and the database is away: they are sent when it is back, not unknown."""
    failures = 2
    inner = Database.transaction

    def flaky(database: Database, name: str = "transaction") -> object:
        nonlocal failures
        if name == "record deliveries" and failures:
            failures -= 1
            raise Unavailable("away", retry_after=0.01)
        return inner(database, name)

    await office.customers(5)
    campaign = await office.draft()
    await office.send(campaign)
    monkeypatch.setattr(Database, "transaction", flaky)
    await office.work()
    assert failures == 0
    assert await office.stats(campaign) == {"status": "finished", "sent": 5}


async def test_a_parked_batch_does_not_stop_the_others(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that always fails becomes a dead letter; the batches behind it are sent all the same."""
    await office.customers(40)
    campaign = await office.draft()
    await office.send(campaign)
    inner = repository.claim

    async def broken(connection: object, batch: Batch, limit: int) -> object:
        if batch.number == 0:
            raise RuntimeError("broken")
        return await inner(connection, batch, limit)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(repository, "claim", broken)
        await office.execute("UPDATE jobs SET max_attempts = 1")
        await office.work()
    assert await office.stats(campaign) == {"status": "sending", "queued": 7, "sent": 33}

    async with office.runtime.database.transaction() as connection:
        dead = await connection.fetchval("SELECT id FROM jobs WHERE state = 'parked'")
        assert await jobs.redrive(connection, dead)
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 40}
    assert len(office.mailbox.messages()) == 40


async def test_a_late_answer_is_still_the_answer(office: Office) -> None:
    """A worker that hung comes back after its recipients became unknown: what it knows replaces the unknown."""
    await office.customers(2)
    campaign = await office.draft()
    await office.send(campaign)
    batch = Batch(campaign, 0)
    database = office.runtime.database
    async with database.transaction() as connection:
        _, recipients = await repository.claim(connection, batch, 10)
    await office.work()  # another worker takes the batch over
    assert await office.stats(campaign) == {"status": "finished", "unknown": 2}

    sent, retried = (
        repository.Delivery(recipient, state, unreached=False, wait=0.0, detail="")
        for recipient, state in zip(recipients, (RecipientState.SENT, RecipientState.QUEUED), strict=True)
    )
    async with database.transaction() as connection:
        await repository.record(connection, batch, [sent, retried])
    # The one that would have to be sent again stays unknown: the campaign is over for it.
    assert await office.stats(campaign) == {"status": "finished", "sent": 1, "unknown": 1}


async def test_an_answer_to_an_older_attempt_changes_nothing(office: Office) -> None:
    """The attempt's number is a fence."""
    await office.customers(1)
    campaign = await office.draft()
    await office.send(campaign)
    batch = Batch(campaign, 0)
    async with office.runtime.database.transaction() as connection:
        _, (recipient,) = await repository.claim(connection, batch, 10)
        await connection.execute("UPDATE campaign_recipients SET attempts = 2")
        stale = repository.Delivery(recipient, RecipientState.FAILED, unreached=False, wait=0.0, detail="")
        await repository.record(connection, batch, [stale])
    assert await office.stats(campaign) == {"status": "sending", "queued": 1}


async def test_two_last_batches_at_once_finish_the_campaign(office: Office) -> None:
    """The last two batches end in the same instant: one of them sees that nothing is left."""
    for round_ in range(5):
        await office.customers(14)
        campaign = await office.draft(name=f"round {round_}")
        await office.send(campaign)
        await office.work()
        assert await office.stats(campaign) == {"status": "finished", "sent": 14}


async def test_consent_withdrawn_while_waiting_for_a_retry(office: Office) -> None:
    """Consent is looked at before the second attempt too."""
    await office.customers(1)
    office.mailbox.order(Fault.REJECT_450)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    await office.stub.RecordCustomerChanged(customer(1, consent=False, changed_at=later(1)))
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "suppressed": 1}
    assert office.mailbox.messages() == []
