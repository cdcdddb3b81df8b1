"""Money for an order: once per payment intent, never the wrong amount, never kept when it cannot be used."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2 as pb
from holdfast.orders.v1 import orders_pb2_grpc
from reliability import rpc
from reliability.errors import Problem
from reliability.runtime import Application, Runtime
from services.orders.app import build
from services.orders.settings import OrdersSettings

NOWHERE = "127.0.0.1:1"
SETTINGS = {
    "catalog_grpc": NOWHERE,
    "payments_grpc": NOWHERE,
    "notifications_grpc": NOWHERE,
    "cart_secret": "a secret of thirty-two characters",
}
RuntimeFor = Callable[..., Awaitable[Runtime[OrdersSettings]]]
ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]


class Orders:
    """The service on a fresh database, with one pending order of 1500 USD in it."""

    def __init__(
        self, runtime: Runtime[OrdersSettings], connect: Callable[[str], grpc.aio.Channel], order: str
    ) -> None:
        self.database = runtime.database
        self._connect = connect
        self.order = order

    async def pay(self, intent: str, amount: int = 1500, *, order: str = "", caller: str = "payments-webhooks") -> int:
        stub = orders_pb2_grpc.OrdersServiceStub(self._connect(caller))
        request = pb.RecordPaymentRequest(
            payment_intent_id=intent,
            order_id=order or self.order,
            amount=money_pb2.Money(amount=amount, currency="USD"),
        )
        answer = await rpc.invoke(stub.RecordPayment, request, step="orders.RecordPayment")
        return answer.outcome

    async def value(self, query: str) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchval(query)


@pytest.fixture
async def orders(runtime_for: RuntimeFor, serve_rpc: ServeRpc) -> Orders:
    runtime = await runtime_for("orders", OrdersSettings, **SETTINGS)
    async with runtime.database.transaction() as connection:
        order = await connection.fetchval(
            """
            WITH cart AS (INSERT INTO carts DEFAULT VALUES RETURNING id),
            placed AS (
                INSERT INTO orders (cart_id, email, shipping_address, shipping_method, currency, subtotal, discount,
                                    shipping, tax, total, hold_expires_at, correlation_id)
                SELECT id, 'a@example.com', '{"name": "A"}', 'standard', 'USD', 1000, 0, 500, 0, 1500, now(), 'flow-1'
                  FROM cart RETURNING id),
            line AS (
                INSERT INTO order_lines (order_id, variant_id, sku, title, quantity, unit_price, line_total)
                SELECT id, uuidv7(), 'SKU', 'Thing', 1, 1000, 1000 FROM placed)
            SELECT id::text FROM placed
            """
        )
    return Orders(runtime, await serve_rpc(build(runtime)), order)


async def test_the_second_report_of_a_payment_changes_nothing(orders: Orders) -> None:
    """Five reports of one intent: one payment, one job, the same answer."""
    outcomes = [await orders.pay("pi_1") for _ in range(5)]
    assert outcomes == [pb.PAYMENT_OUTCOME_APPLIED] * 5
    assert await orders.value("SELECT count(*) FROM order_payments") == 1
    assert await orders.value("SELECT count(*) FROM jobs WHERE kind = 'settle_order'") == 1
    assert await orders.value("SELECT status FROM orders") == "paid"


async def test_a_second_success_is_sent_back(orders: Orders) -> None:
    """Another intent for a paid order is recorded, and its refund is enqueued in the same transaction."""
    await orders.pay("pi_1")
    assert await orders.pay("pi_2") == pb.PAYMENT_OUTCOME_REFUND
    assert await orders.pay("pi_2") == pb.PAYMENT_OUTCOME_REFUND
    assert (
        await orders.value("SELECT payload ->> 'payment_intent_id' FROM jobs WHERE kind = 'refund_payment'") == "pi_2"
    )


async def test_a_wrong_amount_writes_nothing(orders: Orders) -> None:
    """A cent less is no payment: a person has to look."""
    with pytest.raises(Problem) as problem:
        await orders.pay("pi_1", 1499)
    assert problem.value.code == "amount_mismatch"
    assert await orders.value("SELECT count(*) FROM order_payments") == 0
    assert await orders.value("SELECT status FROM orders") == "pending"


async def test_an_unknown_order_is_an_error(orders: Orders) -> None:
    """Never a silent yes: the caller retries, then parks."""
    with pytest.raises(Problem) as problem:
        await orders.pay("pi_1", order="01890000-0000-7000-8000-000000000000")
    assert problem.value.code == "not_found"


async def test_only_payments_may_report_money(orders: Orders) -> None:
    """The caller is the name in its certificate."""
    with pytest.raises(Problem) as problem:
        await orders.pay("pi_1", caller="notifications")
    assert problem.value.code == "permission_denied"
    assert await orders.value("SELECT count(*) FROM order_payments") == 0
