"""What runs by itself: two at once are harmless, once more changes nothing."""

import asyncio
from typing import Any

import pytest

from reliability import jobs
from reliability.errors import Unavailable
from services.orders.cart.abandoned import AbandonedCartService
from services.orders.catalog import Catalog
from services.orders.order import cancellation, repository
from services.orders.order.cancellation import CancellationService
from tests.integration.orders.support import Orders


def service(orders: Orders, schedule: str) -> Any:
    """The service behind a schedule, as the worker knows it."""
    return orders.runtime.worker._schedules[schedule].call


async def remind(orders: Orders) -> int:
    """Several runs at once and one more; how many mails about carts are out."""
    runs = await asyncio.gather(*(service(orders, "abandoned_carts")(None) for _ in range(4)))
    await service(orders, "abandoned_carts")(None)
    await orders.work()
    assert sum(run.failed for run in runs) == 0
    return len([name for name in await orders.mails() if name.startswith("abandoned-cart:")])


async def leave(orders: Orders, hours: int = 5) -> None:
    await orders.execute("UPDATE carts SET updated_at = now() - $1 * interval '1 hour'", hours)


async def test_a_cart_is_reminded_of_once(shop_orders: Orders) -> None:
    """Four runs at once, then later again: one mail with what is in it; a cart that is not left yet gets none."""
    assert isinstance(service(shop_orders, "abandoned_carts").__self__, AbandonedCartService)
    customer = shop_orders.customer()
    cart = await shop_orders.add(customer, await shop_orders.shop.variant(price=700), 2)
    assert await remind(shop_orders) == 0
    await leave(shop_orders)
    assert await remind(shop_orders) == 1
    await leave(shop_orders, 30)
    assert await remind(shop_orders) == 1
    mail = (await shop_orders.mails())[f"abandoned-cart:{cart['id']}"]
    assert (mail.to, mail.template) == ("robin@example.com", "abandoned_cart")
    assert mail.data["subtotal"] == {"amount": 1400, "currency": "USD"}


async def test_carts_that_are_not_left(shop_orders: Orders) -> None:
    """Of a guest nobody knows, emptied, forgotten for weeks, or waiting for payment: no mail. Expired unpaid: one."""
    variant = await shop_orders.shop.variant(50)
    await shop_orders.add(shop_orders.guest(), variant)
    emptied = shop_orders.customer()
    await shop_orders.add(emptied, variant)
    await emptied.delete("/api/cart")
    waiting = shop_orders.guest()
    checkout = await shop_orders.buy(waiting, variant)
    await leave(shop_orders)
    assert await remind(shop_orders) == 0
    await waiting.post(f"/api/checkout/{checkout['id']}/cancel", params={"token": checkout["checkout_token"]})
    await leave(shop_orders, 24 * 8)
    assert await remind(shop_orders) == 0
    await leave(shop_orders)
    assert await remind(shop_orders) == 1


async def test_orders_over_their_time_are_ended(shop_orders: Orders) -> None:
    """However many look at once: one job each, which ends it, or extends it while money is on the way; no other."""
    assert isinstance(service(shop_orders, "expired_holds").__self__, CancellationService)
    variant = await shop_orders.shop.variant(50)
    overdue, paying, young = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(3)]
    assert await shop_orders.value("SELECT count(*) FROM jobs WHERE state = 'queued'") == 0
    await shop_orders.pays(paying)
    runs = await asyncio.gather(*(shop_orders.expire(overdue["id"], paying["id"]) for _ in range(3)))
    assert sum(run.processed for run in runs) == 2
    await shop_orders.work()
    assert (await shop_orders.expire()).processed == 0
    rows = {}
    async with shop_orders.runtime.database.connection() as connection:
        for row in await connection.fetch("SELECT id::text, status, hold_expires_at > now() AS held FROM orders"):
            rows[row["id"]] = (row["status"], row["held"])
    assert rows == {
        overdue["id"]: ("cancelled", False),
        paying["id"]: ("pending", True),
        young["id"]: ("pending", True),
    }
    assert await shop_orders.shop.counts(variant) == (50, 2)
    reasons = "SELECT count(*) FROM order_events WHERE order_id = $1 AND actor = 'clock'"
    assert await shop_orders.value(reasons, overdue["id"]) == 1


async def test_money_that_takes_days_is_asked_for_less_and_less_often(shop_orders: Orders) -> None:
    """Its end comes by webhook; who asks as a precaution need not do so thousands of times."""
    order = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(50))
    await shop_orders.pays(order)
    await shop_orders.expire(order["id"])
    await shop_orders.work()
    waits = "SELECT extract(epoch FROM run_at - now())::int FROM jobs WHERE kind = 'expire_order' AND state = 'queued'"
    assert 0 < await shop_orders.value(waits) <= 30
    await shop_orders.execute(
        "UPDATE jobs SET run_at = now(), created_at = now() - interval '1 hour' WHERE kind = 'expire_order'"
    )
    await shop_orders.work()
    assert 300 < await shop_orders.value(waits) <= 360
    assert await shop_orders.value("SELECT hold_expires_at > now() + interval '14 minutes' FROM orders")


async def test_any_number_of_orders_is_taken_in_batches(shop_orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose time ended at one instant, and those before that have their jobs already: each is looked at once."""
    monkeypatch.setattr(cancellation, "_BATCH", 2)
    seen, look = [], repository.expire_overdue

    async def spy(*arguments: Any) -> repository.Overdue | None:
        seen.append(await look(*arguments))
        return seen[-1]

    monkeypatch.setattr(repository, "expire_overdue", spy)
    variant = await shop_orders.shop.variant(50)
    orders = [(await shop_orders.buy(shop_orders.guest(), variant))["id"] for _ in range(5)]
    assert (await shop_orders.expire(*orders[:3])).processed == 3
    assert [batch and batch.enqueued for batch in seen] == [2, 1, None]
    seen.clear()
    assert (await shop_orders.expire(*orders)).processed == 2
    assert [batch and batch.enqueued for batch in seen] == [0, 1, 1, None]
    await shop_orders.work()
    assert await shop_orders.value("SELECT count(*) FROM orders WHERE status = 'cancelled'") == 5


async def test_an_order_whose_job_is_a_dead_letter_is_tried_again(shop_orders: Orders) -> None:
    """Once an hour, one attempt: in between it is what staff see, and no order waits for them for ever."""
    variant = await shop_orders.shop.variant(50)
    order = (await shop_orders.buy(shop_orders.guest(), variant))["id"]
    await shop_orders.expire(order)
    await shop_orders.execute(
        "UPDATE jobs SET state = 'parked', attempt = max_attempts, finished_at = now() WHERE kind = 'expire_order'"
    )
    assert (await shop_orders.expire()).processed == 0
    await shop_orders.execute("UPDATE jobs SET finished_at = now() - interval '61 minutes' WHERE state = 'parked'")
    assert sorted(run.processed for run in await asyncio.gather(*(shop_orders.expire() for _ in range(3)))) == [0, 0, 1]
    left = "SELECT max_attempts - attempt FROM jobs WHERE kind = 'expire_order' AND state = 'queued'"
    assert await shop_orders.value(left) == 1
    await shop_orders.work()
    assert await shop_orders.value("SELECT status FROM orders WHERE id = $1", order) == "cancelled"
    assert await shop_orders.value("SELECT state FROM jobs WHERE kind = 'expire_order'") == "done"


async def test_an_order_placed_by_the_version_before_ends_once(shop_orders: Orders) -> None:
    """It has its delayed job from the beginning: no second one is made, and that of an order that was paid is idle."""
    variant = await shop_orders.shop.variant(50)
    unpaid, paid = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(2)]
    for checkout in (unpaid, paid):
        async with shop_orders.runtime.database.transaction("place") as connection:
            order_id = checkout["id"]
            await jobs.enqueue(connection, "expire_order", {"order_id": order_id}, unique_key=order_id, delay=900)
    await shop_orders.pay(paid)
    await shop_orders.work()
    assert (await shop_orders.expire(unpaid["id"], paid["id"])).processed == 0
    await shop_orders.execute("UPDATE jobs SET run_at = now() WHERE kind = 'expire_order'")
    await shop_orders.work()
    states = "SELECT array_agg(status ORDER BY id = $1) FROM orders"
    assert await shop_orders.value(states, paid["id"]) == ["cancelled", "paid"]
    assert await shop_orders.value("SELECT count(*) FROM jobs WHERE kind = 'expire_order' AND state = 'done'") == 2


async def test_an_order_whose_catalog_is_away_is_tried_again(shop_orders: Orders, monkeypatch: Any) -> None:
    """One that fails does not keep the others from ending, and is extended when catalog is back."""
    variant = await shop_orders.shop.variant(50)
    first, second = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(2)]
    await shop_orders.pays(first)

    async def away(_self: Catalog, _order: str, _ttl: int) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "extend", away)
        assert (await shop_orders.expire(first["id"], second["id"])).processed == 2
        await shop_orders.work()
    ended = "SELECT id::text FROM orders WHERE status = 'cancelled'"
    assert await shop_orders.value(ended) == second["id"]
    held = "SELECT hold_expires_at > now() FROM orders WHERE id = $1"
    assert not await shop_orders.value(held, first["id"])
    await shop_orders.execute("UPDATE jobs SET run_at = now() WHERE kind = 'expire_order' AND state = 'queued'")
    await shop_orders.work()
    assert await shop_orders.value(held, first["id"])
