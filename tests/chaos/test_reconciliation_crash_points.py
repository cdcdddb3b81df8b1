"""What if we die here? While what nobody told us is found out."""

import pytest

from deploy.local.demo.shopper import Shopper
from tests.chaos.mortal import Mortal, assert_bought, mortal, order, points, shopper, system
from tests.chaos.points import DIES, RECONCILIATION, some

__all__ = ["mortal", "points", "shopper", "system"]


@pytest.mark.parametrize("point", some(RECONCILIATION))
async def test_a_lost_webhook_is_found_in_spite_of_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Stripe's webhooks are all lost and the reconciler dies: the next run ends with one sale in everybody's books."""
    purchase = await order(mortal, shopper)
    intent = purchase.checkout["payment"]["payment_intent_id"]
    await shopper.order_fault(on="webhook", fault="drop", times=10, payment_intent=intent)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    async with mortal.staff() as staff, mortal.dying(DIES[point], point):
        (await staff.http.post("/api/admin/payments/reconcile", json={})).raise_for_status()
    await assert_bought(mortal, purchase, mails=1)
    drift = "SELECT kind, repaired FROM drift WHERE stripes = 'payment_intent.succeeded' AND found_at >= $1"
    found = await mortal.observer.rows("payments-webhooks", drift, mortal.since)
    assert found == [{"kind": "missing_event", "repaired": True}]
