"""A customer who is gone is charged nothing more, and no card of theirs is kept."""

from typing import Any

from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability.context import Principal
from tests.integration.payments.conftest import Shop
from tests.integration.payments.test_subscriptions import subscriber


async def forget(shop: Shop, who: Principal) -> bool:
    stub: Any = payments_pb2_grpc.PaymentsServiceStub(shop.connect("accounts"))
    return bool((await stub.ForgetCustomer(pb.ForgetCustomerRequest(customer_id=who.id, email=who.email))).kept)


async def state(shop: Shop) -> str:
    return str(await shop.value("SELECT state FROM subscriptions"))


async def test_subscriptions_end_and_cards_are_taken_back(shop: Shop) -> None:
    """At once and at Stripe; done again, nothing more happens."""
    ada = await subscriber(shop)
    await ada.ask(await ada.card())
    await ada.hear()
    before = await shop.mails()
    assert await state(shop) == "active"
    assert [await forget(shop, ada.who) for _ in range(2)] == [False, False]
    assert await state(shop) == "canceled"
    assert [each.status for each in await ada.at_stripe()] == ["canceled"]
    methods = await shop.sandbox.api.v1.customers.payment_methods.list_async(ada.customer)
    assert list(methods.data) == []
    await ada.hear()
    assert await shop.mails() == before, "nobody writes to whom they have forgotten"
    for table in ("subscriptions", "stripe_customers"):
        left = str(await shop.value(f"SELECT string_agg(t::text, ' ') FROM {table} AS t"))
        assert ada.who.email not in left


async def test_a_payment_that_may_still_come_keeps_its_address(shop: Shop) -> None:
    """Until Stripe has decided; then only the figures are left."""
    ada = Principal(id="01920000-0000-7000-8000-000000000001", kind="customer", email="A@example.com", name="Ada")
    order = await shop.order(of=ada)
    intent = (await shop.create_intent(order)).payment_intent_id
    assert await forget(shop, ada) is True
    await shop.sandbox.pay(intent)
    await shop.deliver(await shop.event("payment_intent.succeeded", intent))
    await shop.work()
    assert await forget(shop, ada) is False
    assert await shop.value("SELECT email FROM payments") == f"erased-{ada.id}@erased.example"
