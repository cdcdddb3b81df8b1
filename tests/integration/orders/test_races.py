"""Races, made to happen: who comes first may differ, what the books say may not."""

import asyncio
from typing import Any

import pytest

from services.orders.payments import Intent, Payments
from tests.integration.orders.support import Orders


async def test_the_webhook_comes_before_the_checkout_answer(shop_orders: Orders, monkeypatch: Any) -> None:
    """The customer has paid, and everybody was told, before orders has stored the intent: one order, paid once."""
    ask = Payments.create_intent

    async def paid_at_once(self: Payments, order_id: str, amount: int, currency: str, email: str) -> Intent:
        intent = await ask(self, order_id, amount, currency, email)
        await shop_orders.sandbox.pay(intent.payment_intent_id)
        await shop_orders.settle()
        assert await shop_orders.value("SELECT status FROM orders") == "paid"
        return intent

    variant, guest = await shop_orders.shop.variant(5), shop_orders.guest()
    with monkeypatch.context() as patch:
        patch.setattr(Payments, "create_intent", paid_at_once)
        checkout = await shop_orders.buy(guest, variant)
    await shop_orders.settle()
    assert checkout["status"] == "paid"
    assert await shop_orders.shop.counts(variant) == (4, 0)
    assert list(await shop_orders.mails()) == [f"order-confirmation:{checkout['id']}"]
    ledger = (await shop_orders.sandbox.get("/_sandbox/ledger"))["orders"][checkout["id"]]
    assert (ledger["charges"], ledger["refunded"]) == (1, 0)


@pytest.mark.parametrize("ending", ["cancel", "expiry"])
@pytest.mark.parametrize("first", ["payment", "ending", "both"])
async def test_an_ending_against_the_payment(shop_orders: Orders, ending: str, first: str) -> None:
    """Either paid, sold and confirmed, or ended, unsold and never charged; Stripe's word decides, whoever was first."""
    variant, guest = await shop_orders.shop.variant(5), shop_orders.guest()
    checkout = await shop_orders.buy(guest, variant)

    async def pay() -> None:
        path = f"/_sandbox/payment_intents/{checkout['payment']['payment_intent_id']}/pay"
        await shop_orders.sandbox.http.post(path, json={"card": "4242424242424242"})

    async def end() -> None:
        if ending == "cancel":
            await guest.post(f"/api/checkout/{checkout['id']}/cancel", params={"token": checkout["checkout_token"]})
        else:
            await shop_orders.execute("UPDATE jobs SET run_at = now() WHERE kind = 'expire_order'")
            await shop_orders.work()

    match first:
        case "payment":
            await pay()
            await end()
        case "ending":
            await end()
            await pay()
        case _:
            await asyncio.gather(pay(), end())
    await shop_orders.settle()
    ledger = (await shop_orders.sandbox.get("/_sandbox/ledger"))["orders"].get(checkout["id"], {"charges": 0})
    status = await shop_orders.value("SELECT status FROM orders")
    seen = (status, ledger["charges"], await shop_orders.shop.counts(variant), len(await shop_orders.mails()))
    paid, ended = ("paid", 1, (4, 0), 1), ("cancelled", 0, (5, 0), 0)
    assert seen in {"payment": [paid], "ending": [ended], "both": [paid, ended]}[first]
