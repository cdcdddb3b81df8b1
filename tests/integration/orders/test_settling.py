"""What follows a payment: the stock is taken, notifications hears of the purchase and of the mail, once."""

import asyncio
from typing import Any

import pytest

from reliability.errors import Unavailable
from services.notifications.mail.service import MailService
from services.orders.catalog import Catalog
from services.orders.notifications import Notifications
from tests.integration.orders.support import Orders

CONFIRMED = "SELECT count(*) FROM order_events WHERE order_id = $1::uuid AND reason = 'confirmation handed over'"
UNSAID = "DELETE FROM order_events WHERE reason = 'confirmation handed over'"
STOCK = "SELECT stock FROM orders WHERE id = $1::uuid"
JOBS = "SELECT count(*) FROM jobs WHERE kind NOT LIKE 'schedule:%' AND state <> 'done'"
AGAIN = "UPDATE jobs SET state = 'queued', finished_at = NULL WHERE kind = 'settle_order'"
PURCHASES = "SELECT count(*) FROM purchases WHERE order_id = $1::uuid AND buyer = 'robin@example.com' AND total = $2"


async def paid(orders: Orders) -> dict[str, Any]:
    """An order whose payment is recorded, and nothing done about it yet."""
    checkout = await orders.buy(orders.guest(), await orders.shop.variant(price=5000))
    await orders.pay(checkout)
    return checkout


async def is_settled(orders: Orders, checkout: dict[str, Any]) -> None:
    """Sold, said so in the timeline once, remembered as a purchase, and confirmed by one mail."""
    order, total = checkout["order_id"], checkout["total"]["amount"]
    assert await orders.value(STOCK, order) == "committed"
    assert await orders.value(CONFIRMED, order) == 1
    assert await orders.elsewhere("notifications", PURCHASES, order, total) == 1
    assert list(await orders.mails()) == [f"order-confirmation:{order}"]
    assert await orders.value(JOBS) == 0


async def test_a_paid_order_is_settled_by_one_job(shop_orders: Orders) -> None:
    """Run once more, because who ran it died before that was noted, it does no harm."""
    checkout = await paid(shop_orders)
    await shop_orders.work()
    await is_settled(shop_orders, checkout)
    for stock in ("held", "committed"):
        await shop_orders.execute(AGAIN)
        await shop_orders.execute("UPDATE orders SET stock = $1", stock)
        await shop_orders.execute(UNSAID)
        await shop_orders.work()
        await is_settled(shop_orders, checkout)


async def test_while_notifications_is_away_the_goods_can_be_sent(
    shop_orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock is noted as taken at once, and never asked for again; the customer is told later, by the same job."""
    checkout = await paid(shop_orders)

    async def away(*_: object) -> None:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(Notifications, "record_paid", away)
        await shop_orders.work()
    assert await shop_orders.value(STOCK, checkout["order_id"]) == "committed"
    assert await shop_orders.value(CONFIRMED, checkout["order_id"]) == 0
    assert await shop_orders.mails() == {}
    # Catalog is not asked again: it would not know the hold.
    await shop_orders.shop.fetch("DELETE FROM hold_lines")
    await shop_orders.shop.fetch("DELETE FROM holds")
    await shop_orders.execute("UPDATE jobs SET run_at = now() WHERE kind = 'settle_order'")
    await shop_orders.work()
    await is_settled(shop_orders, checkout)


async def test_stock_that_was_found_lost_stays_lost(shop_orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes late, its lease long gone, does not make goods ready to be sent whose money has gone back."""
    checkout = await paid(shop_orders)

    async def lost_meanwhile(*_: object) -> None:
        await shop_orders.execute("UPDATE orders SET stock = 'lost'")
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(Notifications, "record_paid", lost_meanwhile)
        await shop_orders.work()
    assert await shop_orders.value(STOCK, checkout["order_id"]) == "lost"


async def test_a_notifications_that_would_forget_the_mail_is_waited_for(
    shop_orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version records the purchase and answers without a mail: the job is not done by that."""
    checkout = await paid(shop_orders)

    async def forgotten(*_: object) -> str:
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(MailService, "confirm_order", forgotten)
        await shop_orders.work()
    assert await shop_orders.value(JOBS) == 1
    await shop_orders.execute("UPDATE jobs SET run_at = now() WHERE kind = 'settle_order'")
    await shop_orders.work()
    await is_settled(shop_orders, checkout)


@pytest.mark.parametrize(
    ("stock", "kinds"),
    [("held", ["commit_stock", "tell_order_paid"]), ("committed", ["tell_order_paid", "send_confirmation"])],
    ids=["before its stock was taken", "before it was confirmed"],
)
async def test_jobs_of_the_version_before_settle_the_order(shop_orders: Orders, stock: str, kinds: list[str]) -> None:
    """Found in the database when this version starts, wherever that one had come to."""
    checkout = await paid(shop_orders)
    if stock == "committed":
        await shop_orders.work()
        for table in ("emails", "purchases"):
            async with shop_orders.runtimes["notifications"].database.connection() as connection:
                await connection.execute(f"DELETE FROM {table}")
        await shop_orders.execute(UNSAID)
    await shop_orders.execute("DELETE FROM jobs WHERE kind = 'settle_order'")
    await shop_orders.execute(
        """
        INSERT INTO jobs (kind, payload, unique_key, max_attempts, correlation_id, trace)
        SELECT kind, jsonb_build_object('order_id', $2::text), $2, 10, 'flow', '{}' FROM unnest($1::text[]) AS kind
        """,
        kinds,
        checkout["order_id"],
    )
    await shop_orders.work()
    await is_settled(shop_orders, checkout)


async def test_what_is_sold_out_is_no_purchase(shop_orders: Orders) -> None:
    """Money for pieces that are gone goes back, once; nobody is told of a purchase, however often the job runs."""
    checkout = await paid(shop_orders)
    await shop_orders.shop.fetch("UPDATE holds SET state = 'expired'")
    await shop_orders.shop.fetch("UPDATE variants SET held = 0, on_hand = 0")
    for _ in range(2):
        await shop_orders.work()
        assert await shop_orders.value(STOCK, checkout["order_id"]) == "lost"
        assert await shop_orders.value("SELECT count(*) FROM refund_requests") == 1
        assert await shop_orders.elsewhere("notifications", "SELECT count(*) FROM purchases") == 0
        gone = "SELECT count(*) FROM order_events WHERE reason = 'the stock was gone when the money came'"
        assert await shop_orders.value(gone) == 1
        await shop_orders.execute(AGAIN)


async def test_a_late_call_does_not_sell_what_was_given_up(
    shop_orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends while CommitStock is on the wire. The next attempt finds no pieces, and then they come back."""
    checkout = await paid(shop_orders)
    await shop_orders.shop.fetch("UPDATE holds SET state = 'expired'")
    await shop_orders.shop.fetch("UPDATE variants SET held = 0, on_hand = 0")
    commit, sent, arrives = Catalog.commit, asyncio.Event(), asyncio.Event()

    async def on_the_wire(*call: Any) -> None:
        if not sent.is_set():
            sent.set()
            await arrives.wait()
        await commit(*call)

    monkeypatch.setattr(Catalog, "commit", on_the_wire)
    first = asyncio.create_task(shop_orders.work())
    await sent.wait()
    await shop_orders.execute("UPDATE jobs SET state = 'queued', lease_until = NULL WHERE kind = 'settle_order'")
    second = asyncio.create_task(shop_orders.work())
    async with asyncio.timeout(30):
        while await shop_orders.value(STOCK, checkout["order_id"]) != "lost":
            await asyncio.sleep(0.01)
    await shop_orders.shop.fetch("UPDATE variants SET on_hand = 10")
    arrives.set()
    await asyncio.gather(first, second)
    assert [dict(row) for row in await shop_orders.shop.fetch("SELECT on_hand, held FROM variants")] == [
        {"on_hand": 10, "held": 0}
    ]
    assert await shop_orders.shop.fetch("SELECT FROM sales") == []
    assert await shop_orders.value("SELECT count(*) FROM refund_requests") == 1
    assert await shop_orders.value(STOCK, checkout["order_id"]) == "lost"
