"""A campaign through a provider that recognises a request: none missed, none doubled, whoever dies."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from reliability import jobs
from reliability.jobs.queue import DEFAULT_MAX_ATTEMPTS
from sandbox.mailbox.faults import Fault
from services.notifications.mail import repository
from services.notifications.mail.domain import Message, Outcome
from services.notifications.mail.mailer import Batches
from services.notifications.mail.resend import ResendMailer, ResendServer
from tests.integration.notifications.support import Crash, Mailbox, Office, serve_mailbox

SENDER = "Holdfast <shop@holdfast.example>"


@pytest_asyncio.fixture(loop_scope="session")
async def resend(office: Office, tmp_path: Path) -> AsyncIterator[Mailbox]:
    """The office's campaigns go out through Resend."""
    folder = tmp_path / "resend"
    folder.mkdir()
    async with serve_mailbox(folder) as mailbox:
        server = ResendServer(f"http://127.0.0.1:{mailbox.http_port}", "re_test")
        real = office.mailer.inner = ResendMailer(server, SENDER, connections=4, cap=2.0)
        yield mailbox
        await real.close()


@dataclass
class CrashingBatches:
    """Dies so many times, before or after the provider got the batch."""

    inner: Batches
    after: bool
    size: int = 100
    times: int = 1

    def pack(self, messages: Sequence[Message]) -> bytes:
        return self.inner.pack(messages)

    async def ship(self, key: str, packed: bytes) -> list[Outcome]:
        if not self.times:
            return await self.inner.ship(key, packed)
        self.times -= 1
        if self.after:
            await self.inner.ship(key, packed)
        raise Crash


@dataclass
class Carrier:
    """A mailer whose batches can be swapped."""

    batches: Batches
    remembers: float = 20 * 3600.0

    async def send(self, message: Message) -> Outcome:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to close."""


async def started(office: Office, count: int = 20) -> str:
    await office.customers(count)
    campaign = await office.draft()
    await office.send(campaign)
    return campaign


async def test_everybody_has_one(office: Office, resend: Mailbox) -> None:
    """Sent in shipments; every recipient knows what the provider calls the mail."""
    campaign = await started(office)
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(set(resend.recipients())) == len(resend.messages()) == 20
    assert await office.rows("SELECT FROM campaign_recipients WHERE provider_id IS NULL") == []
    assert await office.rows("SELECT FROM campaign_shipments WHERE settled_at IS NULL") == []
    (message,) = resend.messages("customer1@example.com")
    assert message.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.headers["List-Unsubscribe"].startswith("<https://shop.example/api/unsubscribe/")


@pytest.mark.parametrize("after", [False, True], ids=["before the provider got it", "after"])
async def test_a_worker_that_dies_leaves_nobody_out_and_nobody_twice(
    office: Office, resend: Mailbox, after: bool
) -> None:
    """The stored bytes go out again under the same key."""
    campaign = await started(office)
    batches = office.mailer.inner.batches
    assert batches is not None
    office.mailer.inner = Carrier(CrashingBatches(batches, after))
    await office.work()
    await office.recover()
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(set(resend.recipients())) == len(resend.messages()) == 20


async def test_however_often_a_worker_dies_at_a_batch_it_is_sent(office: Office, resend: Mailbox) -> None:
    """More often than other jobs are tried: the bytes are there."""
    campaign = await started(office, 7)
    batches = office.mailer.inner.batches
    assert batches is not None
    office.mailer.inner = Carrier(CrashingBatches(batches, after=True, times=DEFAULT_MAX_ATTEMPTS + 5))
    for _ in range(DEFAULT_MAX_ATTEMPTS + 10):
        await office.work()
        await office.recover()
    assert await office.stats(campaign) == {"status": "finished", "sent": 7}
    assert len(set(resend.recipients())) == len(resend.messages()) == 7


async def test_a_batch_that_will_not_end_holds_up_its_lane_no_longer(office: Office, resend: Mailbox) -> None:
    """After some attempts the batch behind it goes on; before, a lane waits for its batch."""
    await started(office, 28)
    batches = office.mailer.inner.batches
    assert batches is not None
    stuck = office.mailer.inner = Carrier(CrashingBatches(batches, after=False, times=1000))
    known = "SELECT count(*) FROM jobs WHERE kind = 'send_campaign_batch'"
    await office.work()
    assert await office.rows(known) == [{"count": 2}]
    for _ in range(DEFAULT_MAX_ATTEMPTS):
        await office.recover()
        await office.work()
    assert await office.rows(known) == [{"count": 4}]
    stuck.batches = batches
    await office.recover()
    await office.work()
    assert len(set(resend.recipients())) == len(resend.messages()) == 28


async def test_a_parked_batch_is_not_given_up_while_the_provider_knows_it(office: Office, resend: Mailbox) -> None:
    """The shipment is open and may be sent again: nobody is called unknown, and a redrive sends it."""
    campaign = await started(office)
    batches = office.mailer.inner.batches
    assert batches is not None
    await office.execute("UPDATE jobs SET max_attempts = 1")
    office.mailer.inner = Carrier(CrashingBatches(batches, after=True))
    await office.work()
    await office.recover()
    await office.work()
    assert await office.stats(campaign) == {"status": "sending", "queued": 7, "sent": 13}
    async with office.runtime.database.transaction() as connection:
        dead = await connection.fetchval("SELECT id FROM jobs WHERE state = 'parked'")
        assert await jobs.redrive(connection, dead)
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(set(resend.recipients())) == len(resend.messages()) == 20


@pytest.mark.parametrize("fault", [Fault.HTTP_500, Fault.DROP_AFTER_DATA, Fault.HTTP_429, Fault.HTTP_403])
async def test_an_error_delays_and_loses_nothing(office: Office, resend: Mailbox, fault: Fault) -> None:
    """Asked again until there is an answer."""
    campaign = await started(office)
    resend.order(fault, times=3)
    for _ in range(5):
        await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(set(resend.recipients())) == len(resend.messages()) == 20


async def test_a_shipment_in_doubt_is_not_let_go(office: Office, resend: Mailbox) -> None:
    """Accepted unseen, then refused as too fast: the recipients must not be put into another shipment."""
    campaign = await started(office)
    resend.order(Fault.DROP_AFTER_DATA, times=3)
    await office.work()
    resend.order(Fault.HTTP_429, times=3)
    await office.work_later()
    assert await office.stats(campaign) == {"status": "sending", "queued": 20}
    for _ in range(3):
        await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert len(resend.messages()) == 20


async def test_a_shipment_in_doubt_is_unknown_after_twenty_hours(office: Office, resend: Mailbox) -> None:
    """The key may be forgotten soon: nobody is sent anything any more, and everybody in doubt is listed."""
    campaign = await started(office)
    resend.order(Fault.HTTP_500, times=3)
    for _ in range(3):
        await office.work()
        await office.execute("UPDATE campaign_shipments SET created_at = now() - interval '20 hours'")
        await office.work_later()
    stats = await office.stats(campaign)
    assert stats == {"status": "finished", "unknown": 20}
    assert resend.messages() == []


async def test_one_bad_address_fails_alone(office: Office, resend: Mailbox) -> None:
    """The others of its shipment are sent."""
    campaign = await started(office)
    resend.order(Fault.HTTP_422, to="customer7@example.com")
    await office.work()
    assert await office.stats(campaign) == {"status": "finished", "sent": 19, "failed": 1}


async def test_a_bounce_takes_sent_back(office: Office, resend: Mailbox) -> None:
    """A bounce that is reported later takes "sent" back."""
    campaign = await started(office, 2)
    await office.work()
    (row,) = await office.rows("SELECT provider_id FROM campaign_recipients WHERE email = 'customer1@example.com'")
    async with office.runtime.database.transaction() as connection:
        await repository.bounced(connection, row["provider_id"], "bounced: mailbox is gone")
    assert await office.stats(campaign) == {"status": "finished", "sent": 1, "failed": 1}
