"""What if we die here? While a customer waits for the answer to a checkout."""

import pytest

from deploy.local.demo.shopper import Shopper
from deploy.local.state import ROOT
from reliability.testing.crash import names
from tests.chaos.mortal import Mortal, assert_bought, mortal, order, points, shopper, system
from tests.chaos.points import ACCOUNT, BATCH, CAMPAIGN, CHECKOUT, DIES, some

__all__ = ["mortal", "points", "shopper", "system"]


def test_every_point_in_the_sources_is_died_at() -> None:
    """A new point is no point until a test dies there."""
    assert set(names(ROOT / "services", ROOT / "libs" / "reliability" / "src")) == {*DIES, CAMPAIGN, *ACCOUNT, *BATCH}


@pytest.mark.parametrize("point", some(CHECKOUT))
async def test_a_checkout_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The customer's browser asks again with the same key: one order, one charge, one movement of stock, one mail."""
    purchase = await order(mortal, shopper, point)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await assert_bought(mortal, purchase, mails=1)
