"""What if notifications dies here, with a provider that knows a batch again? Then nothing is ever unknown."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.demo.shopper import eventually
from deploy.local.ports import pick_port_base
from deploy.local.system import System
from reliability.testing.crash import CrashPoints
from tests.chaos.test_crash_points import BATCH, Mortal, mortal, points

__all__ = ["mortal", "points"]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, points: CrashPoints) -> Iterator[System]:
    """A system whose mail goes to Resend's side of the mailbox."""
    environment = points.environment | {"MAILBOX_SPEAKS": "resend"}
    with System(tmp_path_factory.mktemp("batches"), pick_port_base(), environment=environment) as system:
        yield system


@pytest.mark.parametrize("point", sorted(BATCH))
async def test_a_batch_survives_death_at(mortal: Mortal, point: str) -> None:
    """The same bytes go out again under the same key: everybody has one mail and nobody is unknown."""
    async with mortal.staff() as staff:
        name = f"Batch {uuid.uuid4().hex[:8]}"
        campaign = await staff.draft_campaign(name)
        async with mortal.dying("notifications", point):
            (await staff.send_campaign(campaign)).raise_for_status()

        async def finished() -> Any:
            stats = await staff.campaign_stats(campaign)
            return stats if stats.get("status") == "finished" else None

        stats = await eventually(finished, "the campaign", seconds=150)  # a batch waits a minute after a death
        await mortal.rest()
    assert (stats["sent"], stats["unknown"]) == (stats["recipients"], 0)
    mails = [mail for mail in await mortal.observer.messages() if mail["subject"].startswith(name)]
    receivers = [to for mail in mails for to in mail["to"]]
    assert len(receivers) == len(set(receivers)) == stats["recipients"]
