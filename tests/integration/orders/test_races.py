"""Races, made to happen: who comes first may differ, what the books say may not."""

import asyncio
from typing import Any

import pytest

from services.orders.catalog import Catalog
from services.orders.payments import Intent, Payments
from tests.integration.orders.support import Orders, key, unknown


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
            await shop_orders.expire(checkout["id"])
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


@pytest.mark.parametrize("same", [True, False], ids=["the same key", "another key"])
async def test_a_click_that_is_overtaken_by_another_hears_the_same(
    shop_orders: Orders, monkeypatch: Any, same: bool
) -> None:
    """The last piece went to the customer's own order meanwhile: it is not out of stock for them."""
    variant, guest, clicked = await shop_orders.shop.variant(1), shop_orders.guest(), key()
    await shop_orders.add(guest, variant)
    ask, answers = Catalog.entries, list[Any]()

    async def overtaken(self: Catalog, variant_ids: Any) -> Any:
        if not answers:
            answers.append(None)  # the other one asks, too
            answers[0] = await asyncio.create_task(shop_orders.checkout(guest, headers=clicked if same else key()))
        return await ask(self, variant_ids)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "lately", unknown)
        patch.setattr(Catalog, "entries", overtaken)
        late = await shop_orders.checkout(guest, headers=clicked)
    assert (answers[0].status_code, late.status_code) == (201, 201), late.text
    assert answers[0].json() == late.json()


async def test_a_late_click_meets_the_payment_of_the_order(shop_orders: Orders, monkeypatch: Any) -> None:
    """One has the cart and waits for the order, one the other way round: whoever has to give way looks again."""
    variant, guest, locked = await shop_orders.shop.variant(5), shop_orders.guest(), asyncio.Event()
    await shop_orders.add(guest, variant)
    ask, tasks = Catalog.entries, list[asyncio.Task[Any]]()

    async def pay() -> None:
        """What a payment locks, in its order, with a pause until the click is in the way."""
        blocked = "SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        async with shop_orders.runtime.database.transaction("pay") as connection:
            await connection.execute("UPDATE orders SET status = 'paid', paid_at = now()")
            locked.set()
            while not await connection.fetchval(blocked):
                await asyncio.sleep(0.01)
            await connection.execute("UPDATE carts SET state = 'ordered'")

    async def overtaken(self: Catalog, variant_ids: Any) -> Any:
        entries = await ask(self, variant_ids)
        if not tasks:
            tasks.append(asyncio.create_task(shop_orders.checkout(guest)))
            assert (await tasks[0]).status_code == 201
            tasks.append(asyncio.create_task(pay()))
            await locked.wait()
        return entries

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "lately", unknown)
        patch.setattr(Catalog, "entries", overtaken)
        late = await shop_orders.checkout(guest)
    await asyncio.gather(*tasks, return_exceptions=True)  # the server chose who gave way
    assert late.status_code == 201 or late.json()["code"] == "cart_empty", late.text
    assert await shop_orders.value("SELECT count(*) FROM orders") == 1
