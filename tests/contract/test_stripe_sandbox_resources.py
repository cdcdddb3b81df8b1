"""Customers, cards, lists, searches and checkout sessions of the sandbox, through the official SDK."""

from typing import Any

import pytest
import stripe

from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    API_KEY,
    Sandbox,
    receiver_fixture,
    receiver_url_fixture,
    sandbox_fixture,
    servers_fixture,
)


async def test_customers(sandbox: Sandbox) -> None:
    """Create, change, unset, find by address, expand from an intent, delete."""
    api = sandbox.api.v1.customers
    customer = await api.create_async(
        {"email": "a@example.com", "address": {"line1": "1 Rue"}, "metadata": {"a": "1", "b": "2"}}
    )
    changed = await api.update_async(customer.id, {"name": "Ada", "metadata": {"a": "", "c": "3"}})
    assert (changed.name, changed.email) == ("Ada", "a@example.com")
    assert changed.to_dict()["metadata"] == {"b": "2", "c": "3"}
    assert [found.id for found in (await api.list_async({"email": "a@example.com"})).data] == [customer.id]
    intent = await sandbox.intent(customer=customer.id, expand=["customer"])
    assert isinstance(intent.customer, stripe.Customer)
    assert intent.customer.name == "Ada"
    event = (await sandbox.api.v1.events.list_async({"type": "customer.updated"})).data[0]
    assert event.to_dict()["data"]["previous_attributes"] == {"name": None, "metadata": {"a": "1", "b": "2"}}
    assert (await api.delete_async(customer.id)).deleted
    assert (await api.list_async()).data == []


async def test_saved_cards(sandbox: Sandbox) -> None:
    """A payment method is attached to a customer, listed by it, paid with and detached."""
    customer = await sandbox.api.v1.customers.create_async()
    api = sandbox.api.v1.payment_methods
    method = await api.create_async({"type": "card", "card": {"token": "tok_visa"}})
    await api.attach_async(method.id, {"customer": customer.id})
    assert [each.id for each in (await api.list_async({"customer": customer.id})).data] == [method.id]
    paid = await sandbox.intent(customer=customer.id, payment_method=method.id, confirm=True, expand=["payment_method"])
    assert isinstance(paid.payment_method, stripe.PaymentMethod)
    assert paid.payment_method.id == method.id
    assert (await api.detach_async(method.id)).customer is None


async def test_lists_are_paged_in_both_directions(sandbox: Sandbox) -> None:
    """Cursors lead from end to end without loss; has_more says whether there is more that way."""
    ids = [(await sandbox.intent(amount=1000 + number)).id for number in range(5)]
    api = sandbox.api.v1.payment_intents
    first = await api.list_async({"limit": 2})
    assert ([each.id for each in first.data], first.has_more) == ([ids[4], ids[3]], True)
    last = await api.list_async({"limit": 3, "starting_after": ids[3]})
    assert ([each.id for each in last.data], last.has_more) == ([ids[2], ids[1], ids[0]], False)
    back = await api.list_async({"limit": 2, "ending_before": ids[1]})
    assert ([each.id for each in back.data], back.has_more) == ([ids[3], ids[2]], True)
    assert [each.id async for each in (await api.list_async({"limit": 2})).auto_paging_iter()] == ids[::-1]
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent"):
        await api.list_async({"starting_after": "pi_none"})


async def test_events_are_listed_by_time_and_type(sandbox: Sandbox) -> None:
    """What a reconciler does: everything since a moment, some types, page by page."""
    intent = await sandbox.intent(confirm=True, payment_method="pm_card_visa")
    api = sandbox.api.v1.events
    some = await api.list_async({"types": ["payment_intent.succeeded", "charge.*"], "created": {"gte": intent.created}})
    assert [event.type for event in some.data] == ["payment_intent.succeeded", "charge.succeeded"]
    assert (await api.list_async({"created": {"gt": intent.created + 60}})).data == []
    paged = [event.type async for event in (await api.list_async({"limit": 1})).auto_paging_iter()]
    assert paged == ["payment_intent.succeeded", "charge.succeeded", "payment_intent.created"]
    sandbox.clock.ahead += 31 * 86_400
    assert (await api.list_async()).data == []


async def test_intents_are_found_by_metadata(sandbox: Sandbox) -> None:
    """The query language finds by metadata, status and amount; what it cannot read it refuses."""
    paid = await sandbox.intent(confirm=True, payment_method="pm_card_visa")
    open_one = await sandbox.intent(metadata={"order_id": "o-'2"}, amount=5000)
    api = sandbox.api.v1.payment_intents

    async def found(query: str) -> list[str]:
        return [each.id for each in (await api.search_async({"query": query})).data]

    assert await found("metadata['order_id']:'o-1'") == [paid.id]
    assert await found('metadata["order_id"]:"o-\'2" AND amount>4999') == [open_one.id]
    assert await found("metadata['order_id']:'o-1' AND status:'canceled'") == []
    assert await found("status:'succeeded' OR amount:5000") == [open_one.id, paid.id]
    assert await found("-status:'succeeded'") == [open_one.id]
    assert await found("metadata['order_id']:null") == []
    page = await api.search_async({"query": "currency:'usd'", "limit": 1})
    assert page.has_more
    assert [each.id async for each in page.auto_paging_iter()] == [open_one.id, paid.id]
    for bad in ("metadata[order_id]:'o-1'", "colour:'red'", "status:'x' AND", "amount>1 AND amount<2 OR amount:3"):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            await found(bad)
        assert caught.value.param == "query"


def _session(**more: Any) -> Any:
    line = {"price_data": {"currency": "usd", "unit_amount": 700, "product_data": {"name": "Chew toy"}}, "quantity": 2}
    return {
        "mode": "payment",
        "success_url": "http://127.0.0.1/done?session={CHECKOUT_SESSION_ID}",
        "line_items": [line],
        "payment_intent_data": {"metadata": {"order_id": "o-7"}},
        **more,
    }


async def test_a_checkout_session_is_paid_on_its_page(sandbox: Sandbox) -> None:
    """The page takes a test card; a decline leaves it open; once paid the session has its intent."""
    api = sandbox.api.v1.checkout.sessions
    session = await api.create_async(_session(customer_email="a@example.com"))
    assert session.id.startswith("cs_test_")
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 1400)
    assert session.payment_intent is None
    assert session.url is not None
    assert "4242424242424242" in (await sandbox.http.get(session.url)).text
    declined = await sandbox.http.post(session.url, data={"card": "4000000000000002"})
    assert "declined" in declined.text
    paid = await sandbox.http.post(session.url, data={"card": "4242424242424242"})
    assert (paid.status_code, paid.headers["location"]) == (303, f"http://127.0.0.1/done?session={session.id}")
    done = await api.retrieve_async(session.id, {"expand": ["payment_intent", "line_items"]})
    assert (done.status, done.payment_status) == ("complete", "paid")
    assert isinstance(done.payment_intent, stripe.PaymentIntent)
    assert (done.payment_intent.status, done.payment_intent.to_dict()["metadata"]) == ("succeeded", {"order_id": "o-7"})
    assert done.line_items is not None
    assert [(line.description, line.quantity) for line in done.line_items.data] == [("Chew toy", 2)]
    assert (await sandbox.event_types())[-1] == "checkout.session.completed"
    with pytest.raises(stripe.InvalidRequestError, match="complete"):
        await api.expire_async(session.id)


@pytest.mark.parametrize(
    ("number", "does"),
    [
        ("4242 4242 4242 4242", "succeeds"),
        ("4000 0000 0000 0002", "generic_decline"),
        ("4000 0000 0000 7726", "succeeds, its refund: pending, then succeeds"),
        ("4000 0000 0000 5126", "succeeds, its refund: succeeds, then fails"),
        ("4000 0000 0000 0259", "succeeds, then disputed as fraudulent"),
    ],
)
async def test_a_hosted_page_says_what_each_card_does(sandbox: Sandbox, number: str, does: str) -> None:
    """Also what comes after the payment: whoever takes a card to try a dispute finds it."""
    session = await sandbox.api.v1.checkout.sessions.create_async(_session())
    assert session.url is not None
    assert f"<code>{number}</code><span>{does}</span>" in (await sandbox.http.get(session.url)).text


async def test_an_expired_session_cannot_be_paid(sandbox: Sandbox) -> None:
    """Expired by call or by time, announced either way, and closed for good; its open intent is canceled."""
    api = sandbox.api.v1.checkout.sessions
    first = await api.create_async(_session())
    await sandbox.act(f"checkout/sessions/{first.id}/pay", {"card": "4000002760003184"})
    assert (await api.expire_async(first.id)).status == "expired"
    expired = await sandbox.act(f"checkout/sessions/{first.id}/pay", {}, 400)
    assert "expired" in expired["error"]["message"]
    second = await api.create_async(_session())
    sandbox.clock.ahead += 25 * 3600
    await sandbox.intent()
    await sandbox.receiver.wait_for("checkout.session.expired", 2)
    assert (await api.retrieve_async(second.id)).status == "expired"
    assert [each.status for each in (await api.list_async({"status": "expired"})).data] == ["expired", "expired"]
    assert "payment_intent.canceled" in await sandbox.event_types()


async def test_the_lists_and_searches_below_other_objects(sandbox: Sandbox) -> None:
    """Refunds of a charge, cards of a customer, lines of a session, and searches of customers and charges."""
    api = sandbox.api.v1
    customer = await api.customers.create_async({"email": "b@example.com", "metadata": {"shop": "42"}})
    method = await api.payment_methods.create_async({"type": "card", "card": {"number": "5555555555554444"}})
    await api.payment_methods.attach_async(method.id, {"customer": customer.id})
    paid = await sandbox.intent(customer=customer.id, payment_method=method.id, confirm=True)
    refund = await api.refunds.create_async({"payment_intent": paid.id})
    charge = str(paid.latest_charge)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    refunds = (await sandbox.http.get(f"/v1/charges/{charge}/refunds", headers=headers)).json()
    assert [each["id"] for each in refunds["data"]] == [refund.id]
    cards = await api.customers.payment_methods.list_async(customer.id)
    assert [each.id for each in cards.data] == [method.id]
    assert (await api.payment_methods.retrieve_async(method.id)).customer == customer.id
    customers = await api.customers.search_async({"query": "metadata['shop']:'42' AND email~'B@'"})
    assert [each.id for each in customers.data] == [customer.id]
    charges = await api.charges.search_async({"query": "amount>1000"})
    assert [each.id for each in charges.data] == [charge]
    assert (await api.customers.retrieve_async(customer.id)).email == "b@example.com"
    session = await api.checkout.sessions.create_async(_session())
    lines = await api.checkout.sessions.line_items.list_async(session.id)
    assert [line.amount_total for line in lines.data] == [1400]
