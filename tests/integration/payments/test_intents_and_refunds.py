"""Cancelled before it began, and never more back than came in: both without a word to Stripe."""

from collections.abc import Awaitable, Callable

import grpc.aio
import pytest

from holdfast.common.v1 import money_pb2
from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import rpc
from reliability.errors import Problem
from reliability.ids import new_id
from reliability.runtime import Application, Runtime
from services.payments_webhooks.app import build
from services.payments_webhooks.settings import PaymentsSettings

SETTINGS = {
    "orders_grpc": "127.0.0.1:1",
    "notifications_grpc": "127.0.0.1:1",
    "stripe_api_key": "sk_test_nobody",
    "stripe_webhook_secret": "whsec_nobody",
    "stripe_api_base": "http://127.0.0.1:1",
}
RuntimeFor = Callable[..., Awaitable[Runtime[PaymentsSettings]]]
ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]


@pytest.fixture
async def runtime(runtime_for: RuntimeFor) -> Runtime[PaymentsSettings]:
    return await runtime_for("payments-webhooks", PaymentsSettings, **SETTINGS)


@pytest.fixture
async def channel(runtime: Runtime[PaymentsSettings], serve_rpc: ServeRpc) -> grpc.aio.Channel:
    return (await serve_rpc(build(runtime)))("orders")


async def test_an_order_cancelled_before_its_payment_never_gets_one(channel: grpc.aio.Channel) -> None:
    """The tombstone refuses a CreateIntent that was on its way."""
    stub, order = payments_pb2_grpc.PaymentsServiceStub(channel), new_id()
    cancelled = await rpc.invoke(stub.CancelIntent, pb.CancelIntentRequest(order_id=order), step="cancel")
    assert cancelled.status == pb.INTENT_STATUS_CANCELED
    late = pb.CreateIntentRequest(
        order_id=order, attempt=1, amount=money_pb2.Money(amount=100, currency="USD"), email="a@example.com"
    )
    with pytest.raises(Problem) as problem:
        await rpc.invoke(stub.CreateIntent, late, step="create")
    assert problem.value.code == "payment_cancelled"


async def test_refunds_never_exceed_the_charge_and_a_key_refunds_once(
    runtime: Runtime[PaymentsSettings], channel: grpc.aio.Channel
) -> None:
    """Twice the same key is one refund; more than is left is refused; nothing negative, no other currency."""
    async with runtime.database.transaction() as connection:
        await connection.execute(
            """
            INSERT INTO payments (order_id, attempt, amount, currency, email, state, payment_intent_id, client_secret,
                                  correlation_id)
            VALUES (uuidv7(), 1, 1000, 'USD', 'a@example.com', 'succeeded', 'pi_1', 's', 'flow')
            """
        )
    stub = payments_pb2_grpc.PaymentsServiceStub(channel)

    async def refund(key: str, amount: int, currency: str = "USD") -> str:
        money = money_pb2.Money(amount=amount, currency=currency)
        request = pb.RefundPaymentRequest(idempotency_key=key, payment_intent_id="pi_1", amount=money, reason="test")
        return (await rpc.invoke(stub.RefundPayment, request, step="refund")).refund_id

    assert await refund("a", 600) == await refund("a", 600)
    for key, amount, currency in (("b", 401, "USD"), ("c", 0, "USD"), ("d", -5, "USD"), ("e", 100, "EUR")):
        with pytest.raises(Problem) as problem:
            await refund(key, amount, currency)
        assert problem.value.code == "refund_exceeds_charge"
    await refund("f", 400)
    async with runtime.database.connection() as connection:
        assert await connection.fetchval("SELECT sum(amount) FROM refunds") == 1000
        assert await connection.fetchval("SELECT count(*) FROM jobs WHERE kind = 'create_refund'") == 2
