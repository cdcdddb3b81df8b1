"""What if notifications dies here, with a provider that knows a batch again? Then nothing is ever unknown."""

from collections.abc import Iterator

import pytest

from deploy.local.ports import pick_port_base
from deploy.local.system import System
from reliability.testing.crash import CrashPoints
from tests.chaos.mortal import Mortal, campaign_dying_at, mortal, points
from tests.chaos.points import BATCH

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
    stats = await campaign_dying_at(mortal, point)
    assert (stats["sent"], stats["unknown"]) == (stats["recipients"], 0)
