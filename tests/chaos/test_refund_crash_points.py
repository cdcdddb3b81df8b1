"""What if we die here? While money goes back."""

import pytest

from deploy.local.demo.shopper import Shopper
from tests.chaos.mortal import (
    Mortal,
    assert_books,
    assert_ordered_once,
    mortal,
    order,
    points,
    post_until_answered,
    shopper,
    states,
    system,
)
from tests.chaos.points import DIES, FAILED_REFUND, REFUND, STAFF_REFUND, UNUSABLE, some

__all__ = ["mortal", "points", "shopper", "system"]


@pytest.mark.parametrize("point", some(REFUND))
async def test_a_refund_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Money for stock that is gone goes back once, and one mail says so."""
    purchase = await order(mortal, shopper)
    async with mortal.empty_shelf(purchase.checkout["order_id"], purchase.variant, 2):
        async with mortal.dying(DIES[point], point):
            (await shopper.pay(purchase.checkout)).raise_for_status()
        await shopper.wait_for(purchase.checkout, "refunded", seconds=60)
        await mortal.rest()
    total = purchase.checkout["total"]["amount"]
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (1, total)
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    assert await states(mortal, purchase) == {"order": "refunded", "stock": "lost", "hold": "released"}
    (mail,) = await mortal.observer.messages(to=shopper.email)
    assert "refund" in mail["subject"]
    await assert_books(mortal)


@pytest.mark.parametrize("point", some(STAFF_REFUND))
async def test_a_refund_by_staff_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The same click until it is answered: the money goes back once, with one mail and one line in the audit log."""
    purchase = await order(mortal, shopper)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    path = f"/api/admin/orders/{purchase.checkout['order_id']}/refund"
    body = {"amount": {"amount": 100, "currency": "USD"}, "reason": "The bag was torn."}
    async with mortal.staff() as staff:
        async with mortal.dying(DIES[point], point):
            await post_until_answered(staff, path, body, status=202)
        await mortal.rest()
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (1, 100)
    mails = [mail for mail in await mortal.observer.messages(to=shopper.email) if "refund" in mail["subject"]]
    assert len(mails) == 1
    audited = "SELECT count(*) FROM audit_log WHERE action = 'order.refunded' AND subject = $1"
    assert await mortal.observer.value("admin", audited, purchase.checkout["order_id"]) == 1
    await assert_books(mortal)


@pytest.mark.long
async def test_a_refund_that_fails_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """The money came back to us: Stripe, payments and orders agree that nothing was refunded."""
    purchase = await order(mortal, shopper)
    async with mortal.empty_shelf(purchase.checkout["order_id"], purchase.variant, 2):
        async with mortal.dying(DIES[FAILED_REFUND], FAILED_REFUND):
            (await shopper.pay(purchase.checkout, "4000000000005126")).raise_for_status()
        await shopper.wait_for(purchase.checkout, "paid", seconds=60)
        await mortal.rest()
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (0, 0)
    refunds = await mortal.observer.rows(
        "payments-webhooks",
        "SELECT r.state FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE p.order_id = $1",
        purchase.checkout["order_id"],
    )
    assert refunds == [{"state": "failed"}]
    assert await states(mortal, purchase) == {"order": "paid", "stock": "lost", "hold": "released"}


@pytest.mark.long
async def test_money_for_an_order_that_is_over_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """Whatever ended the order while it could be paid: the charge goes back once, and nothing is sold."""
    purchase = await order(mortal, shopper)
    order_id = purchase.checkout["order_id"]
    async with mortal.database("orders") as connection:
        await connection.execute("UPDATE orders SET status = 'cancelled', stock = 'released' WHERE id = $1", order_id)
    async with mortal.database("catalog") as connection:
        await connection.execute("UPDATE holds SET state = 'released' WHERE order_id = $1", order_id)
        await connection.execute("UPDATE variants SET held = held - 2 WHERE id = $1", purchase.variant)
    async with mortal.dying(DIES[UNUSABLE], UNUSABLE):
        (await shopper.pay(purchase.checkout)).raise_for_status()
    await mortal.rest()
    account = (await mortal.observer.ledger())["orders"][order_id]
    assert (account["charges"], account["refunds"], account["refunded"]) == (1, 1, account["charged"])
    assert await states(mortal, purchase) == {"order": "cancelled", "stock": "released", "hold": "released"}
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    await assert_books(mortal)
