"""What runs by itself: two at once are harmless, once more changes nothing."""

import asyncio
from typing import Any

from reliability.errors import Unavailable
from services.orders.cart.abandoned import AbandonedCartService
from services.orders.catalog import Catalog
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


async def test_orders_over_their_time_end_without_their_jobs(shop_orders: Orders) -> None:
    """Their jobs are gone: the sweep ends them, extends those whose money is on the way, and leaves the others."""
    assert isinstance(service(shop_orders, "expired_holds").__self__, CancellationService)
    variant = await shop_orders.shop.variant(50)
    overdue, paying, young = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(3)]
    await shop_orders.execute("DELETE FROM jobs WHERE kind = 'expire_order'")
    await shop_orders.execute(
        "UPDATE orders SET hold_expires_at = now() - interval '1 minute' WHERE id <> $1", young["id"]
    )
    await shop_orders.pays(paying)
    runs = await asyncio.gather(*(service(shop_orders, "expired_holds")(None) for _ in range(3)))
    assert sum(run.failed for run in runs) == 0
    await shop_orders.work()
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


async def test_an_order_whose_stripe_is_away_is_left_for_the_next_run(shop_orders: Orders, monkeypatch: Any) -> None:
    """One that fails does not keep the others from ending."""
    variant = await shop_orders.shop.variant(50)
    first, _ = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(2)]
    await shop_orders.execute("UPDATE orders SET hold_expires_at = now() - interval '1 minute'")
    await shop_orders.pays(first)

    async def away(_self: Catalog, _order: str, _ttl: int) -> None:
        raise Unavailable

    monkeypatch.setattr(Catalog, "extend", away)
    run = await service(shop_orders, "expired_holds")(None)
    assert (run.processed, run.failed) == (2, 1)
    assert await shop_orders.value("SELECT count(*) FROM orders WHERE status = 'cancelled'") == 1
