"""`kill -9` of the real process in the middle of a campaign."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from sandbox.mailbox.faults import Fault
from services.notifications.campaigns.sending import WINDOW
from tests.integration.notifications.support import Office, confirmation

ROOT = Path(__file__).resolve().parents[3]
LANES = 2
KILLS = ("customer9@example.com", "customer23@example.com")


def _environment(office: Office) -> dict[str, str]:
    settings = office.runtime.settings
    values = {name: value for name, value in settings.model_dump().items() if value not in {None, ()}}
    ours = {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
    }
    path = os.pathsep.join(str(ROOT / part) for part in ("libs/reliability/src", "proto/gen"))
    return {**os.environ, **ours, "PYTHONPATH": path, "CAMPAIGN_LANES": str(LANES)}


@asynccontextmanager
async def _worker(office: Office) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process, killed when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.notifications", "worker"),
        cwd=ROOT,
        env=_environment(office),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_kill_9_in_the_middle(
    office: Office, until: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    """Two kills with mails on their way, then a worker that lives: nobody has two, and who has none is listed."""
    await office.customers(40)
    campaign = await office.draft()
    await office.send(campaign)
    for victim in KILLS:
        office.mailbox.order(Fault.SLOW, to=victim, seconds=600)

        async def arrived(victim: str = victim) -> bool:
            return bool(office.mailbox.messages(victim))

        async with _worker(office):
            await until(arrived)
        await office.execute("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")

    async def finished() -> bool:
        return bool((await office.stats(campaign))["status"] == "finished")

    # A mail that somebody waits for is not held up by any of it.
    await office.stub.SendEmail(confirmation())
    async with _worker(office):
        await until(finished)

    stats = await office.stats(campaign)
    recipients = office.mailbox.recipients()
    assert len(recipients) == len(set(recipients))
    unknown = {
        row["email"] for row in await office.rows("SELECT email FROM campaign_recipients WHERE state = 'unknown'")
    }
    assert set(KILLS) <= unknown
    assert len(unknown) == stats["unknown"] <= len(KILLS) * LANES * WINDOW
    everybody = {f"customer{n}@example.com" for n in range(1, 41)}
    assert everybody - unknown <= set(recipients)
    assert stats["sent"] == 40 - len(unknown)
    assert (await office.email())["state"] == "sent"
