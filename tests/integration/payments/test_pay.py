"""A customer pays an order of theirs, one way at a time, whatever is clicked twice, changed, lost or another's."""

import asyncio
from typing import Any

import pytest

from holdfast.payments.v1 import payments_pb2 as pb
from reliability import rpc
from reliability.context import Principal
from reliability.ids import new_id
from tests.integration.payments.conftest import TOTAL, Shop
from tests.integration.payments.test_events import again

INTENTS, SESSIONS, METHODS = "/intents", "/checkout-sessions", "/methods"


async def cancel(shop: Shop, order: str) -> int:
    """As orders does it."""
    request = pb.CancelIntentRequest(order_id=order)
    return (await rpc.invoke(shop.stub.CancelIntent, request, step="payments.CancelIntent")).status


async def opened(shop: Shop, who: Principal, path: str, order: str) -> dict[str, Any]:
    answer = await shop.ask(who, "POST", path, {"order_id": order})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def pay_page(shop: Shop, url: str, card: str = "4242424242424242") -> int:
    """As a browser does on Stripe's page."""
    return (await shop.sandbox.http.post(url, data={"card": card})).status_code


async def test_an_intent_is_the_one_the_checkout_made(shop: Shop) -> None:
    """Asking for it again, with any key, is the same payment; the same key is the same answer."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    made = await shop.create_intent(order)
    first = await shop.ask(ada, "POST", INTENTS, {"order_id": order}, key="k")
    again = await shop.ask(ada, "POST", INTENTS, {"order_id": order}, key="k")
    assert (first.status_code, first.json()["payment_intent_id"]) == (201, made.payment_intent_id)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert first.json()["amount"] == {"amount": TOTAL, "currency": "USD"}
    shown = await shop.ask(ada, "GET", f"{INTENTS}/{first.json()['id']}")
    assert shown.json() == first.json()
    assert (await shop.ask(ada, "GET", f"{INTENTS}/{made.payment_intent_id}")).json() == first.json()
    assert len(await shop.intents()) == 1


async def test_sixteen_clicks_make_one_payment(shop: Shop) -> None:
    """Without an intent from the checkout, in both ways at once: one is live in the end, and only it can be paid."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    answers = await asyncio.gather(
        *(shop.ask(ada, "POST", path, {"order_id": order}) for path in (INTENTS, SESSIONS) * 8)
    )
    assert {answer.status_code for answer in answers} <= {201, 409, 503}
    live = await shop.rows("SELECT kind FROM payments WHERE state IN ('creating', 'open', 'processing')")
    assert len(live) == 1
    listed = await shop.sandbox.api.v1.checkout.sessions.list_async({"limit": 100})
    open_intents = [intent for intent in await shop.intents() if intent.status == "requires_payment_method"]
    assert len(open_intents) + sum(session.status == "open" for session in listed.data) == 1


async def test_a_hosted_page_takes_the_place_of_the_intent(shop: Shop) -> None:
    """The intent is cancelled at Stripe before there is a page; what the customer pays there pays the order."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    intent = (await shop.create_intent(order)).payment_intent_id
    page = await opened(shop, ada, SESSIONS, order)
    assert (await shop.sandbox.api.v1.payment_intents.retrieve_async(intent)).status == "canceled"
    assert (await opened(shop, ada, SESSIONS, order))["url"] == page["url"]
    assert await pay_page(shop, page["url"]) == 303
    await shop.deliver(await shop.event("checkout.session.completed", page["id"]))
    await shop.work()
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
    # The intent's own event comes later and changes nothing.
    await shop.deliver(await shop.event("payment_intent.succeeded", page["id"]))
    await shop.deliver(await shop.event("payment_intent.canceled", intent))
    await shop.work()
    assert await shop.of_orders("SELECT sum(amount)::int FROM order_payments") == TOTAL
    assert await shop.rows("SELECT attempt, kind, state FROM payments ORDER BY attempt") == [
        {"attempt": 1, "kind": "intent", "state": "canceled"},
        {"attempt": 2, "kind": "session", "state": "succeeded"},
    ]
    await shop.refund("k", await shop.value("SELECT payment_intent_id FROM payments WHERE attempt = 2"))
    await shop.work()
    assert (await shop.sandbox.get("/_sandbox/ledger"))["orders"][order]["refunded"] == TOTAL


async def test_and_back_again(shop: Shop) -> None:
    """The page is expired at Stripe before there is another intent; checkout's own question is answered with that."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    first = (await shop.create_intent(order)).payment_intent_id
    page = await opened(shop, ada, SESSIONS, order)
    third = await opened(shop, ada, INTENTS, order)
    assert third["payment_intent_id"] != first
    assert await pay_page(shop, page["url"]) == 400
    assert (await shop.create_intent(order)).payment_intent_id == third["payment_intent_id"]


async def test_a_page_that_is_paid_cannot_be_left(shop: Shop) -> None:
    """Its webhook is not here yet, but Stripe says so: no intent, no cancellation."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    page = await opened(shop, ada, SESSIONS, order)
    await pay_page(shop, page["url"])
    answer = await shop.ask(ada, "POST", INTENTS, {"order_id": order})
    assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_progress")
    assert await cancel(shop, order) == pb.INTENT_STATUS_SUCCEEDED


async def test_a_cancelled_order_is_never_paid(shop: Shop) -> None:
    """The page is expired at Stripe first; neither way is open any more."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    page = await opened(shop, ada, SESSIONS, order)
    assert await cancel(shop, order) == pb.INTENT_STATUS_CANCELED
    assert await pay_page(shop, page["url"]) == 400
    for path in (INTENTS, SESSIONS):
        answer = await shop.ask(ada, "POST", path, {"order_id": order})
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_cancelled")


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_change_that_was_cut_off_goes_on_unless_the_order_was_cancelled(shop: Shop, cancelled: bool) -> None:
    """We died when Stripe had confirmed that the intent is gone: the page is made now, or never."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    intent = (await shop.create_intent(order)).payment_intent_id
    await shop.execute("UPDATE payments SET successor = 'session'")
    await shop.sandbox.api.v1.payment_intents.cancel_async(intent)
    await shop.deliver(await shop.event("payment_intent.canceled", intent))
    await shop.work()
    if cancelled:
        assert await cancel(shop, order) == pb.INTENT_STATUS_CANCELED
    answer = await shop.ask(ada, "POST", SESSIONS, {"order_id": order})
    assert answer.status_code == (409 if cancelled else 201)


async def test_cancelling_meets_switching(shop: Shop) -> None:
    """Orders cancels while the customer changes the way to pay, many times over: cancelled is cancelled at Stripe."""
    ada = shop.customer()
    for _ in range(8):
        order = await shop.order(of=ada)
        await shop.create_intent(order)
        asked = [shop.ask(ada, "POST", path, {"order_id": order}) for path in (SESSIONS, INTENTS, SESSIONS)]
        status, *_ = await asyncio.gather(cancel(shop, order), *asked)
        if status == pb.INTENT_STATUS_CANCELED:
            assert (
                await shop.value("SELECT count(*) FROM payments WHERE order_id = $1 AND state <> 'canceled'", order)
                == 0
            )
    open_sessions = await shop.sandbox.api.v1.checkout.sessions.list_async({"limit": 100, "status": "open"})
    closed = {row["id"] for row in await shop.rows("SELECT id::text FROM payments WHERE state = 'canceled'")}
    assert closed & {str(session.client_reference_id) for session in open_sessions.data} == set()


@pytest.mark.parametrize("fault", ["500", "500_before_effect", "connection_reset"])
async def test_a_page_is_made_once_whatever_stripe_answers(shop: Shop, fault: str) -> None:
    """One page in the end, and the same key gets it."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    await shop.sandbox.fault(on="api", method="POST", path="/v1/checkout/sessions", fault=fault)
    answers = [await shop.ask(ada, "POST", SESSIONS, {"order_id": order}, key="k") for _ in range(4)]
    urls = {answer.json()["url"] for answer in answers if answer.status_code == 201}
    listed = await shop.sandbox.api.v1.checkout.sessions.list_async({"limit": 100})
    assert {str(session.url) for session in listed.data} == urls
    assert len(urls) == 1


async def test_a_page_that_nobody_pays_expires(shop: Shop) -> None:
    """After a day Stripe closes it and says so."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    page = await opened(shop, ada, SESSIONS, order)
    session = await shop.value("SELECT session_id FROM payments")
    await shop.sandbox.api.v1.checkout.sessions.expire_async(session)
    await shop.deliver(await shop.event("checkout.session.expired", page["id"]))
    await shop.work()
    assert await shop.value("SELECT state FROM payments") == "canceled"


async def test_a_card_is_kept_by_stripe_and_by_reference_here(shop: Shop) -> None:
    """Saved while paying, listed by brand and last digits, used for the next order, forgotten once."""
    ada = shop.customer()
    orders = [await shop.order(of=ada) for _ in range(2)]
    answer = await shop.ask(ada, "POST", INTENTS, {"order_id": orders[0], "save_card": True})
    await shop.sandbox.pay(answer.json()["payment_intent_id"])
    page = (await shop.ask(ada, "GET", METHODS)).json()
    (card,) = page["items"]
    assert (card["brand"], card["last4"], page["next_cursor"]) == ("visa", "4242", None)
    body = {"order_id": orders[1], "payment_method_id": card["id"]}
    second = await shop.ask(ada, "POST", INTENTS, body)
    intent = await shop.sandbox.api.v1.payment_intents.retrieve_async(second.json()["payment_intent_id"])
    assert intent.payment_method == card["id"]
    stored = await shop.rows("SELECT stripe_id FROM stripe_customers")
    assert stored == [{"stripe_id": intent.customer}]
    assert [(await shop.ask(ada, "DELETE", f"{METHODS}/{card['id']}")).status_code for _ in range(2)] == [204, 404]
    assert (await shop.ask(ada, "GET", METHODS)).json()["items"] == []


async def test_cards_come_in_pages(shop: Shop) -> None:
    """Each once, newest first; a cursor of somebody else's is none."""
    ada, eve = shop.customer(), shop.customer("eve")
    customer = await saved_with(shop, ada)
    cards = [
        (await shop.sandbox.api.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})).id
        for _ in range(3)
    ]
    seen, cursor = [], ""
    for _ in range(2):
        page = (await shop.ask(ada, "GET", f"{METHODS}?limit=2{cursor}")).json()
        seen += [card["id"] for card in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == cards[::-1]
    assert page["next_cursor"] is None
    await saved_with(shop, eve)
    refused = await shop.ask(eve, "GET", f"{METHODS}?cursor={cards[0]}")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/cursor")


async def saved_with(shop: Shop, who: Principal) -> str:
    """Makes somebody known at Stripe; the customer's id there."""
    answer = await shop.ask(who, "POST", INTENTS, {"order_id": await shop.order(of=who), "save_card": True})
    assert answer.status_code == 201
    return str(await shop.value("SELECT stripe_id FROM stripe_customers WHERE account_id = $1", who.id))


async def test_what_is_somebody_elses_is_not_there(shop: Shop) -> None:
    """Orders, payments, cards: 404, and nothing is made or changed."""
    ada, eve = shop.customer(), shop.customer("eve")
    customer = await saved_with(shop, ada)
    card = (await shop.sandbox.api.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer})).id
    payment, intent, order = (await shop.rows("SELECT id::text, payment_intent_id, order_id::text FROM payments"))[
        0
    ].values()
    hers = await shop.order(of=eve)
    refused = [
        await shop.ask(eve, "POST", INTENTS, {"order_id": order}),
        await shop.ask(eve, "POST", SESSIONS, {"order_id": order}),
        await shop.ask(eve, "POST", INTENTS, {"order_id": hers, "payment_method_id": card}),
        await shop.ask(eve, "GET", f"{INTENTS}/{payment}"),
        await shop.ask(eve, "GET", f"{INTENTS}/{intent}"),
        await shop.ask(eve, "DELETE", f"{METHODS}/{card}"),
        await shop.ask(ada, "GET", f"{INTENTS}/{new_id()}"),
        await shop.ask(ada, "GET", f"{INTENTS}/pi_none"),
        await shop.ask(ada, "DELETE", f"{METHODS}/pm_..%2f..%2fcustomers%2f{customer}"),
        await shop.ask(ada, "POST", INTENTS, {"order_id": "no id"}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(404, "not_found")] * len(refused)
    assert [answer.json()["detail"] for answer in refused[3:5]] == [
        f"There is no payment {payment!r}.",
        f"There is no payment {intent!r}.",
    ]
    assert await shop.value("SELECT count(*) FROM payments") == 1
    assert (await shop.ask(ada, "GET", METHODS)).json()["items"][0]["id"] == card


async def test_a_guests_order_is_nobodys(shop: Shop) -> None:
    """It is paid by its checkout token, never by an account."""
    answer = await shop.ask(shop.customer(), "POST", INTENTS, {"order_id": await shop.order()})
    assert answer.status_code == 404


async def test_an_order_that_is_paid_is_not_payable(shop: Shop) -> None:
    """And says so."""
    ada = shop.customer()
    order = await shop.order(of=ada)
    await shop.paid(order)
    answer = await shop.ask(ada, "POST", SESSIONS, {"order_id": order})
    assert (answer.status_code, answer.json()["code"]) == (409, "order_not_payable")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (INTENTS, {}),
        (INTENTS, {"order_id": 5}),
        (INTENTS, {"order_id": ""}),
        (INTENTS, {"order_id": "x", "save_card": "yes"}),
        (INTENTS, {"order_id": "x", "amount": 1}),
        (INTENTS, {"order_id": "x\0"}),
        (SESSIONS, {"order_id": "x", "return_path": "https://evil.example"}),
        (SESSIONS, {"order_id": "x", "return_path": "//evil.example"}),
        (SESSIONS, {"order_id": "x", "return_path": "/\\evil.example"}),
        (SESSIONS, {"order_id": "x", "return_path": 1}),
    ],
)
async def test_bad_bodies_are_refused(shop: Shop, path: str, body: dict[str, Any]) -> None:
    """422 with the field, before anything is asked."""
    answer = await shop.ask(shop.customer(), "POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"]


async def test_credentials_come_first_and_the_key_is_required(shop: Shop) -> None:
    """401 before anything; 400 without a key; another body under the same key is 422."""
    ada = shop.customer()
    for method, path in (("POST", INTENTS), ("POST", SESSIONS), ("GET", METHODS), ("DELETE", f"{METHODS}/pm_1")):
        assert (await shop.ask(None, method, path)).status_code == 401
    orders = [await shop.order(of=ada) for _ in range(2)]
    for path in (INTENTS, SESSIONS):
        assert (await shop.ask(ada, "POST", path, {"order_id": orders[0]}, key=None)).status_code == 400
    answers = [await shop.ask(ada, "POST", INTENTS, {"order_id": order}, key="k") for order in orders]
    assert [answer.status_code for answer in answers] == [201, 422]


async def test_a_lost_page_is_found_by_the_reconciler(shop: Shop) -> None:
    """Paid on the page, no webhook, no event listed: the page itself is asked."""
    from tests.integration.payments.test_reconcile import reconcile

    ada = shop.customer()
    order = await shop.order(of=ada)
    page = await opened(shop, ada, SESSIONS, order)
    await pay_page(shop, page["url"])
    await shop.execute("INSERT INTO reconciliation (watermark) VALUES (now() + interval '3 hours')")
    await shop.execute("UPDATE payments SET created_at = now() - interval '40 days'")
    await reconcile(shop, ahead=4 * 3600.0)
    await again(shop, 2)
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
