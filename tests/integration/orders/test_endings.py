"""Orders that end before they are paid: nothing stays pending for ever, and no dead payment is shown as a live one."""

from typing import Any

import pytest

from holdfast.payments.v1 import payments_pb2, payments_pb2_grpc
from reliability import jobs
from services.orders.order import repository
from services.orders.payments import Intent, Payments
from tests.integration.orders.support import Orders, key


async def half_cancelled(orders: Orders, checkout: dict[str, Any], *, stripe_asked: bool = True) -> None:
    """As after a death between Stripe's end of a payment and ours, or before Stripe was asked."""
    async with orders.runtime.database.transaction() as connection:
        await repository.begin_ending(connection, checkout["id"], "cancelled by the customer", "customer")
    if stripe_asked:
        stub = payments_pb2_grpc.PaymentsServiceStub(orders.runtime.channel("payments"))
        answer = await stub.CancelIntent(payments_pb2.CancelIntentRequest(order_id=checkout["id"]))
        assert answer.status == payments_pb2.INTENT_STATUS_CANCELED


async def test_an_order_stripe_will_never_take_ends_at_once(shop_orders: Orders, monkeypatch: Any) -> None:
    """A clear 422, the order ended, the stock back; the same cart can be ordered when Stripe thinks otherwise."""
    variant, guest = await shop_orders.shop.variant(5), shop_orders.guest()
    await shop_orders.add(guest, variant, 2)
    ask = Payments.create_intent

    async def in_no_currency(self: Payments, order_id: str, amount: int, _currency: str, email: str) -> Intent:
        return await ask(self, order_id, amount, "ZZZ", email)

    with monkeypatch.context() as patch:
        patch.setattr(Payments, "create_intent", in_no_currency)
        header = key()
        for _ in range(2):
            answer = await shop_orders.checkout(guest, headers=header)
            assert (answer.status_code, answer.json()["code"]) == (422, "payment_refused")
    await shop_orders.settle()
    assert await shop_orders.shop.counts(variant) == (5, 0)
    assert await shop_orders.value("SELECT count(*) FROM orders WHERE status <> 'cancelled'") == 0
    assert (await shop_orders.checkout(guest)).status_code == 201


@pytest.mark.parametrize("read", ["checkout", "order", "cart"])
async def test_a_dead_payment_is_noticed_by_the_next_reader(shop_orders: Orders, read: str) -> None:
    """Whoever asks for the checkout or the order sees it ended; whoever orders the cart again gets a live payment."""
    variant, customer = await shop_orders.shop.variant(5), shop_orders.customer()
    checkout = await shop_orders.buy(customer, variant)
    await half_cancelled(shop_orders, checkout)
    match read:
        case "checkout":
            answer = await customer.get(f"/api/checkout/{checkout['id']}", params={"token": checkout["checkout_token"]})
            assert answer.json()["status"] == "cancelled"
        case "order":
            assert (await customer.get(f"/api/me/orders/{checkout['id']}")).json()["status"] == "cancelled"
        case _:
            again = (await shop_orders.checkout(customer)).json()
            assert again["payment"]["payment_intent_id"] != checkout["payment"]["payment_intent_id"]
            await shop_orders.pays(again)
    await shop_orders.settle()
    assert await shop_orders.value("SELECT status FROM orders WHERE id = $1", checkout["id"]) == "cancelled"
    assert await shop_orders.shop.counts(variant) == ((4, 0) if read == "cart" else (5, 0))


async def test_a_half_cancelled_order_ends_without_readers(shop_orders: Orders) -> None:
    """The job that was written before Stripe was asked comes to the end of it."""
    variant = await shop_orders.shop.variant(5)
    guest = shop_orders.guest()
    checkout = await shop_orders.buy(guest, variant)
    async with shop_orders.runtime.database.transaction() as connection:
        await jobs.enqueue(connection, "end_order", {"order_id": checkout["id"]})
    await half_cancelled(shop_orders, checkout, stripe_asked=False)
    await shop_orders.settle()
    assert await shop_orders.value("SELECT status FROM orders") == "cancelled"
    assert await shop_orders.shop.counts(variant) == (5, 0)


async def test_money_that_came_first_keeps_the_order(shop_orders: Orders) -> None:
    """Stripe says no to a half-begun end: the order goes on, and is paid."""
    checkout = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(5))
    await shop_orders.pays(checkout)
    await half_cancelled(shop_orders, checkout, stripe_asked=False)
    path, query = f"/api/checkout/{checkout['id']}", {"token": checkout["checkout_token"]}
    assert (await shop_orders.guest().get(path, params=query)).json()["status"] == "pending"
    assert await shop_orders.value("SELECT ending_reason FROM orders") is None
    await shop_orders.settle()
    assert (await shop_orders.guest().get(path, params=query)).json()["status"] == "paid"
