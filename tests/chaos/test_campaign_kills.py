"""A campaign while a random worker dies every second: nobody is missed and nobody is written to twice.

RECIPIENTS says how many (20,000; the promise is about 100,000), KILL_EVERY how many seconds a worker is spared.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.post_office import CONCURRENCY, PostOffice, opened
from deploy.local.ports import pick_port_base
from services.notifications.campaigns.sending import WINDOW

RECIPIENTS = int(os.environ.get("RECIPIENTS", "20000"))
KILL_EVERY = float(os.environ.get("KILL_EVERY", "1"))
# A worker that is killed leaves its lanes to wait for the end of its leases: of so many, enough are always alive.
WORKERS, LANES, LEASE, SEED = 3, 16, 2.0, 7
# What a worker may have on its way when it is killed: so many batches run at once in it, of each a few mails.
IN_FLIGHT = min(LANES, CONCURRENCY) * WINDOW


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostOffice]:
    """Notifications' workers and a mailbox, as processes."""
    async with opened(tmp_path_factory.mktemp("post"), pick_port_base(), lanes=LANES) as office:
        yield office


async def chaos(office: PostOffice, *, resend: bool) -> tuple[str, int]:
    """Sends to everybody while workers die; the campaign, and how many did."""
    if not (await office.row("SELECT count(*) FROM contacts"))["count"]:
        await office.contacts(1, RECIPIENTS)
    office.empty()
    campaign = await office.start(resend=resend)
    office.hire(WORKERS, resend=resend, lease=LEASE)
    chance, kills = random.Random(SEED), 0
    begun = time.perf_counter()
    async with asyncio.timeout(60 + RECIPIENTS / 20):
        while not await office.finished(campaign):
            await asyncio.sleep(KILL_EVERY)
            office.kill(chance.choice(office.workers))
            office.spawn()
            kills += 1
    office.dismiss()
    seconds = time.perf_counter() - begun
    told = f"{RECIPIENTS} recipients, {kills} kills, {await office.states(campaign)} in {seconds:.0f} s"
    print(f"{'resend' if resend else 'smtp'}: {told}")
    return campaign, kills


@pytest.mark.long
async def test_a_provider_that_recognises_a_batch_misses_and_doubles_nobody(office: PostOffice) -> None:
    """Each recipient has exactly one message, whoever died when."""
    campaign, kills = await chaos(office, resend=True)
    assert kills > 0
    assert await office.states(campaign) == {"sent": RECIPIENTS}
    arrived = Counter(office.received())
    assert set(arrived.values()) == {1}
    assert len(arrived) == RECIPIENTS


@pytest.mark.long
async def test_over_plain_smtp_whom_a_kill_left_in_doubt_is_listed(office: PostOffice) -> None:
    """Nobody has two; who may have none is listed as unknown, and they are no more than were on their way."""
    campaign, kills = await chaos(office, resend=False)
    states = await office.states(campaign)
    async with office.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT email FROM campaign_recipients WHERE campaign_id = $1 AND state = 'unknown'", campaign
        )
    unknown = {row["email"] for row in rows}
    arrived = Counter(office.received())
    doubled = {address for address, times in arrived.items() if times > 1}
    print(f"{len(doubled)} doubled, {len(unknown)} unknown and listed, {len(unknown - set(arrived))} of them missed")
    everybody = {f"customer{number}@example.com" for number in range(1, RECIPIENTS + 1)}
    assert set(arrived.values()) == {1}
    assert everybody - set(arrived) <= unknown
    assert states.keys() <= {"sent", "unknown"}
    assert sum(states.values()) == RECIPIENTS
    assert len(doubled | unknown) <= kills * IN_FLIGHT
