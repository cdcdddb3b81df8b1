"""What refunds make of an order: nothing twice, nothing of money that came twice, and nothing that failed."""

import asyncio
import uuid

import grpc
import pytest

from holdfast.orders.v1 import orders_pb2 as pb
from tests.integration.orders.support import Orders


async def status(orders: Orders, order_id: str) -> str:
    return str(await orders.value("SELECT status FROM orders WHERE id = $1", order_id))


async def test_part_of_the_money_then_all_of_it(shop_orders: Orders) -> None:
    """Partially refunded, then refunded; each refund counts once and is said once."""
    checkout = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(price=5000))
    await shop_orders.pay(checkout)
    for _ in range(3):
        await shop_orders.refunded(checkout, 2000, "re_a")
    assert await status(shop_orders, checkout["id"]) == "partially_refunded"
    await shop_orders.refunded(checkout, 3000, "re_b")
    assert await status(shop_orders, checkout["id"]) == "refunded"
    await shop_orders.work()
    assert sorted(name for name in await shop_orders.mails() if name.startswith("refund:")) == [
        "refund:re_a",
        "refund:re_b",
    ]


async def test_money_that_came_twice_goes_back_without_a_trace_on_the_order(shop_orders: Orders) -> None:
    """Two intents are paid for one order: the second is refunded, and the order stays paid."""
    checkout = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(price=5000))
    outcomes = await asyncio.gather(*(shop_orders.pay(checkout, f"pi_{turn % 2}") for turn in range(10)))
    assert sorted(set(outcomes)) == [pb.PAYMENT_OUTCOME_APPLIED, pb.PAYMENT_OUTCOME_REFUND]
    second = await shop_orders.value("SELECT payment_intent_id FROM order_payments WHERE outcome = 'refund'")
    asked = await shop_orders.value("SELECT payload FROM jobs WHERE kind = 'refund_payment'")
    assert (asked["payment_intent_id"], asked["amount"]) == (second, checkout["total"]["amount"])
    await shop_orders.refunded(checkout, asked["amount"], "re_second", second)
    assert await status(shop_orders, checkout["id"]) == "paid"


async def test_a_refund_that_fails_is_taken_back(shop_orders: Orders) -> None:
    """Also when the failure is told first; then the late word of its success changes nothing."""
    checkout = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(price=5000))
    order_id = checkout["id"]
    await shop_orders.pay(checkout)
    await shop_orders.refunded(checkout, 400, "re_known")
    assert await status(shop_orders, order_id) == "partially_refunded"
    for refund in ("re_known", "re_known", "re_unheard"):
        await shop_orders.refund_fails(checkout, 400, refund)
    await shop_orders.refunded(checkout, 400, "re_unheard")
    assert await status(shop_orders, order_id) == "paid"
    assert await shop_orders.value("SELECT count(*) FROM order_refunds WHERE failed_at IS NOT NULL") == 2


async def test_payments_asks_what_may_be_paid(shop_orders: Orders) -> None:
    """The customer's own order with what is owed; anybody else's does not exist."""
    who = str(uuid.uuid4())
    checkout = await shop_orders.buy(shop_orders.customer(customer_id=who), await shop_orders.shop.variant())
    request = pb.GetPayableOrderRequest(order_id=checkout["id"], customer_id=who)
    answer = await shop_orders.rpc.GetPayableOrder(request)
    assert (answer.status, answer.total.amount, answer.order_number) == (
        "pending",
        checkout["total"]["amount"],
        checkout["order_number"],
    )
    guests = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant())
    for order_id, customer in ((checkout["id"], str(uuid.uuid4())), (guests["id"], ""), (guests["id"], who)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shop_orders.rpc.GetPayableOrder(pb.GetPayableOrderRequest(order_id=order_id, customer_id=customer))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
