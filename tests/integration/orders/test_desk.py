"""Staff at the desk, through admin's edge: every write once, audited with the change, and never too much money back."""

import asyncio
import csv
import io
import uuid
from typing import Any

import pytest

from reliability.context import Principal
from tests.integration.orders.support import Orders, key

ORDERS = "/api/admin/orders"


async def paid(orders: Orders, price: int = 5000) -> dict[str, Any]:
    """A guest's order that is paid, and everybody knows."""
    checkout = await orders.buy(orders.guest(), await orders.shop.variant(10, price=price))
    await orders.pays(checkout)
    await orders.settle()
    return checkout


async def audited(orders: Orders) -> list[tuple[str, str]]:
    """What orders wrote down of staff's doings."""
    async with orders.runtime.database.connection() as connection:
        rows = await connection.fetch("SELECT action, actor FROM audit_entries ORDER BY id")
    return [(row["action"], row["actor"]) for row in rows]


async def test_part_of_the_money_goes_back_once_per_key(shop_orders: Orders) -> None:
    """The same click twice is one refund at Stripe, one mail with the reason, one audit row in admin's log."""
    checkout, staff, header = await paid(shop_orders), shop_orders.staff(), key()
    path = f"{ORDERS}/{checkout['id']}/refund"
    body = {"amount": {"amount": 2000, "currency": "USD"}, "reason": "The bag was torn."}
    assert (await staff.post(path, json=body)).json()["code"] == "idempotency_key_missing"
    answers = [await staff.post(path, json=body, headers=header) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    reused = await staff.post(path, json={"reason": "Another."}, headers=header)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    await shop_orders.settle()
    seen = (await staff.get(f"{ORDERS}/{checkout['id']}")).json()
    assert (seen["status"], seen["refunded"]["amount"]) == ("partially_refunded", 2000)
    assert seen["refundable"]["amount"] == checkout["total"]["amount"] - 2000
    (refund,) = seen["refunds"]
    assert (refund["state"], refund["actor"]) == ("refunded", f"staff:{shop_orders.staff_id}")
    at_stripe = await shop_orders.sandbox.api.v1.refunds.list_async()
    assert [each.amount for each in at_stripe.data] == [2000]
    assert [event["reason"] for event in seen["timeline"]][-2:] == [
        "refund of 20.00 USD: The bag was torn.",
        f"20.00 USD went back, refund {at_stripe.data[0].id}",
    ]
    told = [mail for mail in (await shop_orders.mails()).values() if mail.template == "refund_issued"]
    assert [mail.data["reason"] for mail in told] == ["The bag was torn."]
    assert await audited(shop_orders) == [("order.refunded", shop_orders.staff_id)]
    assert await shop_orders.elsewhere("admin", "SELECT count(*) FROM audit_log WHERE action = 'order.refunded'") == 1


async def test_refund_against_refund(shop_orders: Orders) -> None:
    """Eight clicks at once, each for all the money: one goes back, seven are told that nothing is left."""
    checkout, staff = await paid(shop_orders), shop_orders.staff()
    path = f"{ORDERS}/{checkout['id']}/refund"
    answers = await asyncio.gather(*(staff.post(path, json={"reason": "Sorry."}, headers=key()) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [422] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 422} == {"refund_exceeds_charge"}
    await shop_orders.settle()
    assert await shop_orders.value("SELECT status FROM orders") == "refunded"
    at_stripe = await shop_orders.sandbox.api.v1.refunds.list_async()
    assert [each.amount for each in at_stripe.data] == [checkout["total"]["amount"]]
    assert len(await audited(shop_orders)) == 1


async def test_money_given_back_at_stripe_meanwhile_is_not_given_twice(shop_orders: Orders) -> None:
    """Stripe's dashboard was faster: our request ends as failed, the books count the money once."""
    checkout, staff = await paid(shop_orders), shop_orders.staff()
    intent, total = checkout["payment"]["payment_intent_id"], checkout["total"]["amount"]
    answer = await staff.post(f"{ORDERS}/{checkout['id']}/refund", json={"reason": "Sorry."}, headers=key())
    assert answer.status_code == 202
    await shop_orders.sandbox.api.v1.refunds.create_async({"payment_intent": intent, "amount": total})
    await shop_orders.settle()
    seen = (await staff.get(f"{ORDERS}/{checkout['id']}")).json()
    assert (seen["status"], seen["refunded"]["amount"], seen["refundable"]["amount"]) == ("refunded", total, 0)
    assert sorted(refund["state"] for refund in seen["refunds"]) == ["failed", "refunded"]


@pytest.mark.parametrize(
    ("amount", "code", "pointer"),
    [
        ({"amount": -1, "currency": "USD"}, "validation_failed", "/amount/amount"),
        ({"amount": 0, "currency": "USD"}, "validation_failed", "/amount/amount"),
        ({"amount": 2**63 - 1, "currency": "USD"}, "validation_failed", "/amount/amount"),
        ({"amount": 2**63, "currency": "USD"}, "validation_failed", "/amount/amount"),
        ({"amount": 1.5, "currency": "USD"}, "validation_failed", "/amount/amount"),
        ({"amount": 100, "currency": "usd"}, "validation_failed", "/amount/currency"),
        ({"amount": 100, "currency": "XXX"}, "refund_exceeds_charge", "/amount/currency"),
        ({"amount": 10**9, "currency": "USD"}, "refund_exceeds_charge", "/amount/amount"),
    ],
)
async def test_a_bad_amount_sends_nothing_back(shop_orders: Orders, amount: Any, code: str, pointer: str) -> None:
    """Negative, none, too much, too large for a database, in another currency: 422 that says where, nothing written."""
    checkout = await paid(shop_orders)
    body = {"amount": amount, "reason": "Sorry."}
    answer = await shop_orders.staff().post(f"{ORDERS}/{checkout['id']}/refund", json=body, headers=key())
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await shop_orders.value("SELECT count(*) FROM refund_requests") == 0
    assert await audited(shop_orders) == []


@pytest.mark.filterwarnings("error:Pydantic serializer warnings")
async def test_an_order_is_sent_once(shop_orders: Orders) -> None:
    """Two at the desk at once: one hands it over, the customer is told once how to follow it."""
    checkout, staff = await paid(shop_orders), shop_orders.staff()
    path = f"{ORDERS}/{checkout['id']}/fulfil"
    body = {"carrier": "Parcel Post", "tracking_number": "PP 1", "tracking_url": "https://carrier.example/PP1"}
    answers = await asyncio.gather(*(staff.post(path, json=body, headers=key()) for _ in range(2)))
    assert sorted((answer.status_code, answer.json().get("code")) for answer in answers) == [
        (200, None),
        (409, "not_fulfillable"),
    ]
    await shop_orders.settle()
    (mail,) = [mail for mail in (await shop_orders.mails()).values() if mail.template == "order_shipped"]
    assert mail.data["tracking_url"] == "https://carrier.example/PP1"
    await staff.post(f"{ORDERS}/{checkout['id']}/refund", json={"reason": "Sorry."}, headers=key())
    await shop_orders.settle()
    seen = (await staff.get(f"{ORDERS}/{checkout['id']}")).json()
    assert (seen["status"], seen["carrier"]) == ("refunded", "Parcel Post")
    assert await audited(shop_orders) == [
        ("order.fulfilled", shop_orders.staff_id),
        ("order.refunded", shop_orders.staff_id),
    ]
    bad = await staff.post(path, json={"tracking_url": "javascript:alert(1)"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/tracking_url")


async def test_staff_end_only_what_is_not_paid(shop_orders: Orders) -> None:
    """Stripe is asked first: an order whose money is on its way stays, a pending one ends with its stock back."""
    staff, variant = shop_orders.staff(), await shop_orders.shop.variant(10)
    pending, paying = [await shop_orders.buy(shop_orders.guest(), variant) for _ in range(2)]
    await shop_orders.pays(paying)
    body = {"reason": "A fraud."}
    refused = await staff.post(f"{ORDERS}/{paying['id']}/cancel", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_in_progress")
    for _ in range(2):
        ended = await staff.post(f"{ORDERS}/{pending['id']}/cancel", json=body)
        assert (ended.status_code, ended.json()) == (200, {"id": pending["id"], "status": "cancelled"})
    await shop_orders.settle()
    refused = await staff.post(f"{ORDERS}/{paying['id']}/cancel", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "checkout_closed")
    assert await shop_orders.shop.counts(variant) == (9, 0)
    assert await audited(shop_orders) == [("order.cancelled", shop_orders.staff_id)]
    for path in ("refund", "fulfil", "resend-confirmation"):
        answer = await staff.post(f"{ORDERS}/{pending['id']}/{path}", json=body, headers=key())
        assert (answer.status_code, answer.json()["code"]) == (409, "order_not_paid")


async def test_a_confirmation_once_more(shop_orders: Orders) -> None:
    """A second mail for the first click, none for the second within the minute."""
    checkout, staff = await paid(shop_orders), shop_orders.staff()
    path = f"{ORDERS}/{checkout['id']}/resend-confirmation"
    answers = [await staff.post(path, json={}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]
    await shop_orders.settle()
    told = [mail for mail in (await shop_orders.mails()).values() if mail.template == "order_confirmation"]
    assert len(told) == 2
    assert told[0].data == told[1].data


async def test_lists_narrow_and_page(shop_orders: Orders) -> None:
    """By status, address, number and time; pages do not overlap; the table has a row for each."""
    variant = await shop_orders.shop.variant(50)
    placed = [await shop_orders.buy(shop_orders.guest(), variant, email="Robin@Example.com") for _ in range(3)]
    other = await shop_orders.buy(shop_orders.guest(), variant, email="=cmd@example.com")
    staff = shop_orders.staff()

    async def ids(**query: Any) -> list[str]:
        answer = await staff.get(ORDERS, params=query)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    mine = [checkout["id"] for checkout in reversed(placed)]
    assert await ids(email="robin@example.com") == mine
    assert await ids(order_number=other["order_number"]) == [other["id"]]
    assert await ids(status="paid") == []
    assert await ids(until="2020-01-01T00:00:00Z") == []
    first = (await staff.get(ORDERS, params={"limit": 3})).json()
    rest = (await staff.get(ORDERS, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in (*first["items"], *rest["items"])] == [other["id"], *mine]
    assert rest["next_cursor"] is None
    for bad in ({"status": "lost"}, {"limit": 101}, {"cursor": "x"}, {"customer_id": "x"}, {"since": "yesterday"}):
        assert (await staff.get(ORDERS, params=bad)).status_code == 422, bad
    table = await staff.get(f"{ORDERS}/export", params={"status": "pending"})
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["id"] for row in rows] == [other["id"], *mine]
    assert rows[0]["email"] == "'=cmd@example.com"  # no formula in anybody's spreadsheet
    assert {row["total"] for row in rows} == {str(other["total"]["amount"])}


async def test_only_who_may(shop_orders: Orders) -> None:
    """Refunds take their own permission; what does not exist is 404, whatever it is called."""
    checkout = await paid(shop_orders)
    path = f"{ORDERS}/{checkout['id']}/refund"
    assert (await shop_orders.staff("orders").post(path, json={"reason": "x"}, headers=key())).status_code == 403
    assert (await shop_orders.staff("refunds").get(ORDERS)).status_code == 403
    customer = shop_orders.as_customer(shop_orders.staff(), Principal(str(uuid.uuid4()), "customer", "a@b.cd", "A"))
    assert (await customer.get(ORDERS)).status_code == 403
    staff = shop_orders.staff()
    for unknown in (str(uuid.uuid4()), "nonsense"):
        assert (await staff.get(f"{ORDERS}/{unknown}")).status_code == 404
        for action, body in (("refund", {"reason": "x"}), ("cancel", {"reason": "x"}), ("fulfil", {})):
            answer = await staff.post(f"{ORDERS}/{unknown}/{action}", json=body, headers=key())
            assert answer.status_code == 404, (action, answer.text)
