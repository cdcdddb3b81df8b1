"""What if we die here? While a customer waits for the answer to a checkout."""

import uuid

import pytest

from deploy.local.demo.shopper import Shopper
from deploy.local.state import ROOT
from reliability.testing.crash import names
from tests.chaos.mortal import Mortal, assert_bought, mortal, order, points, post_until_answered, shopper, system
from tests.chaos.points import ACCOUNT, BATCH, CAMPAIGN, CHECKOUT, CHECKOUT_WITH_COUPON, DIES, some

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


@pytest.mark.parametrize("point", some(CHECKOUT_WITH_COUPON))
async def test_a_checkout_with_a_coupon_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """And the coupon is used once."""
    code = f"C{uuid.uuid4().hex[:12].upper()}"
    async with mortal.staff() as staff:
        coupon = await post_until_answered(
            staff,
            "/api/admin/coupons",
            {"code": code, "kind": "percentage", "value": 1000, "currency": "USD", "total_limit": 1},
        )
    purchase = await order(mortal, shopper, point, coupon=code)
    assert purchase.checkout["discount"]["amount"] > 0
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await assert_bought(mortal, purchase, mails=1)
    used = await mortal.observer.rows("orders", "SELECT redeemed FROM coupons WHERE id = $1", coupon["id"])
    assert used == [{"redeemed": 1}]
