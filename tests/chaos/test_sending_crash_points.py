"""What if we die here? While goods or a campaign are sent."""

import pytest

from deploy.local.demo.shopper import Shopper
from tests.chaos.mortal import (
    Mortal,
    assert_books,
    campaign_dying_at,
    mortal,
    order,
    points,
    post_until_answered,
    shopper,
    states,
    system,
)
from tests.chaos.points import CAMPAIGN, DIES, FULFILMENT, some

__all__ = ["mortal", "points", "shopper", "system"]


@pytest.mark.parametrize("point", some(FULFILMENT))
async def test_sending_an_order_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The same click until it is answered: handed over once, and one mail says so."""
    purchase = await order(mortal, shopper)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    path = f"/api/admin/orders/{purchase.checkout['order_id']}/fulfil"
    async with mortal.staff() as staff:
        async with mortal.dying(DIES[point], point):
            await post_until_answered(staff, path, {"carrier": "Parcel Post"}, status=200)
        await mortal.rest()
    assert await states(mortal, purchase) == {"order": "fulfilled", "stock": "committed", "hold": "committed"}
    mails = [mail for mail in await mortal.observer.messages(to=shopper.email) if "on its way" in mail["subject"]]
    assert len(mails) == 1
    await assert_books(mortal)


@pytest.mark.long
async def test_a_campaign_survives_death_at_its_sends(mortal: Mortal) -> None:
    """Marketing that may have arrived is unknown and not sent again; everybody else gets it once."""
    stats = await campaign_dying_at(mortal, CAMPAIGN)
    # The mail server took those that we do not know of: the test died after its answers.
    assert stats["unknown"] > 0
    assert stats["sent"] + stats["unknown"] == stats["recipients"]
