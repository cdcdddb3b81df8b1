"""Events come late, twice, out of order and about things we do not know: the books end right, and nothing is lost."""

import asyncio
import hashlib
import hmac
import json
import time
from contextvars import Context
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest

from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import rpc
from reliability.errors import Problem
from reliability.ids import new_id
from reliability.retention import PURGE
from services.payments_webhooks.intent import repository as payments
from services.payments_webhooks.intent.events import IntentEvents
from tests.contract.stripe_sandbox_fixtures import BOUND_SECONDS, WEBHOOK_SECRET, Received
from tests.integration.payments.conftest import TOTAL, Shop

# As when the answer of Stripe's was lost.
FORGET = """
UPDATE payments SET payment_intent_id = NULL, client_secret = NULL, state = 'creating' RETURNING id::text
"""
PAYING = ("payment_intent.created", "payment_intent.processing", "charge.succeeded", "payment_intent.succeeded")


def signed(event: dict[str, Any]) -> Received:
    """An event of our own making, signed as Stripe signs."""
    body, at = json.dumps(event).encode(), int(time.time())
    digest = hmac.new(WEBHOOK_SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return Received(body, f"t={at},v1={digest}", 0.0)


async def again(shop: Shop, attempts: int = 15) -> None:
    """Runs what failed again and again, without waiting for its time."""
    for _ in range(attempts):
        await shop.work()
        await shop.execute("UPDATE jobs SET run_at = now() WHERE state = 'queued'")


async def states(shop: Shop) -> dict[str, Any]:
    return {
        "inbox": await shop.rows("SELECT event_type, state FROM inbox WHERE state NOT IN ('processed', 'ignored')"),
        "payment": await shop.value("SELECT state FROM payments"),
        "order": await shop.of_orders("SELECT status FROM orders"),
        "paid": await shop.of_orders("SELECT sum(amount)::int FROM order_payments WHERE outcome = 'applied'"),
    }


async def kept(shop: Shop) -> list[tuple[str, str, int]]:
    """Type, state and jobs of each event, in the order they came."""
    rows = await shop.rows(
        """
        SELECT event_type, state, (SELECT count(*) FROM jobs WHERE payload ->> 'inbox_id' = inbox.id::text) AS jobs
          FROM inbox ORDER BY id
        """
    )
    return [(row["event_type"], row["state"], row["jobs"]) for row in rows]


@pytest.mark.parametrize(
    "order_of_arrival", list(permutations(PAYING)), ids=lambda kinds: "-".join(k[-4:] for k in kinds)
)
async def test_a_payment_is_paid_whatever_order_its_events_come_in(
    shop: Shop, order_of_arrival: tuple[str, ...]
) -> None:
    """Made, processing, succeeded: every order of arrival, each event handled before the next, ends in one payment."""
    order = await shop.order()
    intent = (await shop.create_intent(order)).payment_intent_id
    await shop.sandbox.act(f"payment_intents/{intent}/pay", {"card": "4242424242424242", "processing": True})
    await shop.sandbox.act(f"payment_intents/{intent}/settle", {"outcome": "success"})
    # As after a crash: what we knew of the intent is gone, and only its metadata leads back to us.
    await shop.execute(FORGET)
    for kind in order_of_arrival:
        await shop.deliver(await shop.event(kind, intent))
        await shop.work()
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}


async def test_a_refusal_that_comes_after_processing_reopens_the_payment(shop: Shop) -> None:
    """Both orders of arrival end where Stripe is: the customer may try another card."""
    intent = (await shop.create_intent(await shop.order())).payment_intent_id
    await shop.sandbox.act(f"payment_intents/{intent}/pay", {"card": "4242424242424242", "processing": True})
    await shop.sandbox.act(f"payment_intents/{intent}/settle", {"outcome": "fail"}, 402)
    failed = await shop.event("payment_intent.payment_failed", intent)
    processing = await shop.event("payment_intent.processing", intent)
    for arrival in ((failed, processing), (processing, failed)):
        await shop.execute("DELETE FROM inbox")
        for event in arrival:
            await shop.deliver(event)
            await shop.work()
        assert (await states(shop))["payment"] == "open"


async def test_what_tells_nothing_new_needs_no_job(shop: Shop) -> None:
    """Its effect is there when it comes: kept as processed at once; what is not there yet gets a job as ever."""
    order = await shop.order()
    intent = (await shop.create_intent(order)).payment_intent_id
    await shop.sandbox.act(f"payment_intents/{intent}/pay", {"card": "4242424242424242", "processing": True})
    created, processing = [await shop.event(f"payment_intent.{kind}", intent) for kind in ("created", "processing")]
    await shop.deliver(created)
    assert await kept(shop) == [("payment_intent.created", "processed", 0)]
    await shop.deliver(processing)
    assert await kept(shop) == [
        ("payment_intent.created", "processed", 0),
        ("payment_intent.processing", "received", 1),
    ]
    # The same events of a payment that is over, under other names.
    await shop.sandbox.act(f"payment_intents/{intent}/settle", {"outcome": "success"})
    await shop.deliver(await shop.event("payment_intent.succeeded", intent))
    await shop.work()
    await shop.execute("DELETE FROM inbox")
    for late in (created, processing):
        for _ in range(2):
            await shop.deliver(late)
    flow = await shop.value("SELECT correlation_id FROM payments")
    assert await kept(shop) == [
        ("payment_intent.created", "processed", 0),
        ("payment_intent.processing", "processed", 0),
    ]
    assert await shop.rows("SELECT DISTINCT correlation_id FROM inbox") == [{"correlation_id": flow}]
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}


async def test_what_is_being_written_as_an_event_comes_is_not_known_yet(shop: Shop) -> None:
    """Until it has committed it may not come to be: then the event's job has to see to it."""
    intent = (await shop.create_intent(await shop.order())).payment_intent_id
    created = await shop.event("payment_intent.created", intent)
    payment = await shop.value(FORGET)
    with pytest.raises(ZeroDivisionError):
        async with shop.payments.database.transaction() as connection:
            await payments.set_intent(connection, payment, intent, "secret")
            await asyncio.create_task(shop.deliver(created), context=Context())
            raise ZeroDivisionError
    assert await kept(shop) == [("payment_intent.created", "received", 1)]
    await shop.work()
    assert await kept(shop) == [("payment_intent.created", "processed", 1)]
    assert await shop.value("SELECT payment_intent_id FROM payments") == intent


async def test_what_was_kept_without_a_job_can_be_replayed(shop: Shop) -> None:
    """Should what was known be lost, staff let the event be handled after all."""
    intent = (await shop.create_intent(await shop.order())).payment_intent_id
    await shop.deliver(await shop.event("payment_intent.created", intent))
    await shop.execute(FORGET)
    (row,) = (await listed(shop, type="payment_intent.created", state="processed")).items
    await replay(shop, row.id)
    await shop.work()
    assert await kept(shop) == [("payment_intent.created", "processed", 1)]
    assert await shop.value("SELECT payment_intent_id FROM payments") == intent


async def test_a_second_intent_paid_for_one_payment_goes_back(shop: Shop) -> None:
    """Orders cannot use it; it has a row of its own, so that exactly it is refunded."""
    order = await shop.order()
    first = await shop.paid(order)
    payment = await shop.value("SELECT id::text FROM payments")
    second = await shop.sandbox.intent(amount=TOTAL, metadata={"order_id": order, "payment_id": payment})
    await shop.sandbox.pay(second.id)
    event = await shop.event("payment_intent.succeeded", second.id)
    await shop.deliver(event, event)
    await shop.work()
    assert (
        await shop.of_orders("SELECT outcome FROM order_payments WHERE payment_intent_id = $1", second.id) == "refund"
    )
    await shop.refund(f"order-cannot-use:{second.id}", second.id)
    await shop.work()
    ledger = (await shop.sandbox.get("/_sandbox/ledger"))["payment_intents"]
    assert (ledger[first]["refunded"], ledger[second.id]["refunded"]) == (0, TOTAL)
    assert await shop.value("SELECT count(*) FROM payments WHERE stray") == 1


async def test_two_intents_paid_for_one_payment_at_once_are_both_known(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are looked at while the payment has no intent yet: one gets it, the other a row of its own and goes back."""
    order = await shop.order()
    first = (await shop.create_intent(order)).payment_intent_id
    payment = await shop.value(FORGET)
    second = await shop.sandbox.intent(amount=TOTAL, metadata={"order_id": order, "payment_id": payment})
    for intent in (first, second.id):
        await shop.sandbox.pay(intent)
        await shop.deliver(await shop.event("payment_intent.succeeded", intent))
    find, both = IntentEvents.find, asyncio.Barrier(2)

    async def found(*arguments: Any) -> Any:
        payment = await find(*arguments)
        async with asyncio.timeout(BOUND_SECONDS):
            await both.wait()
        return payment

    monkeypatch.setattr(IntentEvents, "find", found)
    await shop.work()
    known = await shop.rows("SELECT payment_intent_id, state FROM payments")
    assert {row["payment_intent_id"]: row["state"] for row in known} == dict.fromkeys([first, second.id], "succeeded")
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}
    unusable = await shop.of_orders("SELECT payment_intent_id FROM order_payments WHERE outcome = 'refund'")
    await shop.refund(f"order-cannot-use:{unusable}", unusable)
    await shop.work()
    ledger = (await shop.sandbox.get("/_sandbox/ledger"))["payment_intents"]
    assert {intent: ledger[intent]["refunded"] for intent in (first, second.id)} == {
        intent: TOTAL if intent == unusable else 0 for intent in (first, second.id)
    }


async def test_an_intent_paid_while_ours_is_being_recorded_is_known(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event was read when the payment had no intent; it has ours when the event's effect is written."""
    order = await shop.order()
    first = (await shop.create_intent(order)).payment_intent_id
    payment = await shop.value(FORGET)
    second = await shop.sandbox.intent(amount=TOTAL, metadata={"order_id": order, "payment_id": payment})
    await shop.sandbox.pay(second.id)
    await shop.deliver(await shop.event("payment_intent.succeeded", second.id))
    find = IntentEvents.find

    async def found(*arguments: Any) -> Any:
        payment = await find(*arguments)
        answer = await asyncio.create_task(shop.create_intent(order), context=Context())
        assert answer.payment_intent_id == first
        return payment

    monkeypatch.setattr(IntentEvents, "find", found)
    await shop.work()
    assert await shop.rows("SELECT payment_intent_id, state FROM payments ORDER BY attempt") == [
        {"payment_intent_id": first, "state": "open"},
        {"payment_intent_id": second.id, "state": "succeeded"},
    ]
    assert await shop.of_orders("SELECT payment_intent_id FROM order_payments") == second.id


async def test_a_second_intent_that_is_cancelled_takes_nothing_along(shop: Shop) -> None:
    """Somebody made another one with the same metadata and thought better of it: ours can still be paid."""
    order = await shop.order()
    first = (await shop.create_intent(order)).payment_intent_id
    payment = await shop.value("SELECT id::text FROM payments")
    second = await shop.sandbox.intent(amount=TOTAL, metadata={"order_id": order, "payment_id": payment})
    await shop.sandbox.api.v1.payment_intents.cancel_async(second.id)
    for kind in ("created", "canceled"):
        await shop.deliver(await shop.event(f"payment_intent.{kind}", second.id))
    await shop.work()
    assert await shop.rows("SELECT payment_intent_id, state FROM payments") == [
        {"payment_intent_id": first, "state": "open"}
    ]
    await shop.sandbox.pay(first)
    await shop.deliver(await shop.event("payment_intent.succeeded", first))
    await shop.work()
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}


async def test_money_nobody_knows_is_retried_and_parked(shop: Shop) -> None:
    """Never a silent yes: the event of an unknown intent ends as a dead letter, which a person can replay."""
    intent = await shop.sandbox.intent(metadata={"order_id": "somebody-else's"})
    await shop.sandbox.pay(intent.id)
    await shop.deliver(await shop.event("payment_intent.succeeded", intent.id))
    await again(shop)
    assert await shop.rows("SELECT state FROM inbox") == [{"state": "parked"}]
    assert await shop.value("SELECT attempt FROM jobs WHERE kind = 'process_event'") == 12
    (shown,) = (await listed(shop, state="parked")).items
    assert "not one of ours" in shown.last_error
    # The payment is made known: a replay mends it.
    order = await shop.order(1299)
    await shop.execute(
        """
        INSERT INTO payments (order_id, attempt, amount, currency, email, state, payment_intent_id, client_secret,
                              correlation_id)
        VALUES ($1, 1, 1299, 'USD', 'a@example.com', 'open', $2, 's', 'flow')
        """,
        order,
        intent.id,
    )
    assert (await replay(shop, shown.id)).state == "received"
    await shop.work()
    assert await shop.rows("SELECT state FROM inbox") == [{"state": "processed"}]
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
    assert await shop.value("SELECT count(*) FROM jobs WHERE kind = 'process_event'") == 1
    assert await shop.audited() == [("someone", "webhook.replayed", shown.event_id)]


@pytest.mark.parametrize("kind", ["payment_intent.succeeded", "customer.subscription.updated", "refund.updated"])
async def test_an_event_about_nothing_is_parked_at_once(shop: Shop, kind: str) -> None:
    """Nobody can ever tell what it means: one attempt, and a sentence for who looks after it."""
    await shop.deliver(signed({"id": "evt_nothing", "type": kind, "data": {"object": {}}}))
    await shop.work()
    assert await shop.rows("SELECT state FROM inbox") == [{"state": "parked"}]
    (job,) = await shop.rows("SELECT state, attempt, last_error FROM jobs WHERE kind = 'process_event'")
    assert (job["state"], job["attempt"]) == ("parked", 1)
    assert f"The object of this {kind} has no id" in job["last_error"]


async def test_money_for_an_order_that_is_not_there_is_retried_and_parked(shop: Shop) -> None:
    """Payments knows it and orders does not: a person sees why, and when it is there, a replay mends it."""
    order = await shop.order()
    intent = (await shop.create_intent(order)).payment_intent_id
    await shop.sandbox.pay(intent)
    lost = new_id()
    await shop.execute("UPDATE payments SET order_id = $1", lost)
    await shop.deliver(await shop.event("payment_intent.succeeded", intent))
    await again(shop)
    (shown,) = (await listed(shop, state="parked")).items
    assert lost in shown.last_error
    assert await shop.value("SELECT state FROM payments") != "succeeded"
    await shop.execute("UPDATE payments SET order_id = $1", order)
    await replay(shop, shown.id)
    await shop.work()
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}


async def test_a_replay_of_what_was_handled_has_no_second_effect(shop: Shop) -> None:
    """It is handled again, and everything is found done; while it waits it cannot be replayed once more."""
    order = await shop.order()
    await shop.paid(order)
    (row,) = (await listed(shop, type="payment_intent.succeeded")).items
    await replay(shop, row.id)
    with pytest.raises(Problem) as problem:
        await replay(shop, row.id)
    assert problem.value.code == "event_in_progress"
    await shop.work()
    assert await states(shop) == {"inbox": [], "payment": "succeeded", "order": "paid", "paid": TOTAL}


async def test_what_cannot_be_an_event_is_not_found(shop: Shop) -> None:
    """Also what is no number, or too large for one."""
    for name in ("0", "x", "-1", "9" * 30, ""):
        with pytest.raises(Problem) as problem:
            await replay(shop, name)
        assert problem.value.code == "not_found"


async def test_unknown_types_are_kept(shop: Shop) -> None:
    """Something Stripe invents tomorrow is stored, answered 200, and can be found."""
    await shop.deliver(signed({"id": "evt_new", "type": "moon.landed", "data": {"object": {"id": "moon_1"}}}))
    await shop.work()
    (row,) = (await listed(shop, state="ignored")).items
    assert (row.event_id, row.type, row.object) == ("evt_new", "moon.landed", "moon_1")


async def test_an_event_is_shown_without_what_could_pay(shop: Shop) -> None:
    """The body is all there but for client secrets."""
    await shop.paid(await shop.order())
    (row,) = (await listed(shop, type="payment_intent.succeeded")).items
    shown = await rpc.invoke(
        admin(shop).GetWebhook, pb.GetWebhookRequest(webhook_id=row.id), step="payments.GetWebhook"
    )
    body = json.loads(shown.body)
    assert body["data"]["object"]["amount_received"] == TOTAL
    assert body["data"]["object"]["client_secret"] == "***"


@pytest.mark.parametrize("late", [False, True], ids=["asked for", "made in the dashboard"])
async def test_a_refund_that_fails_is_taken_back(shop: Shop, late: bool) -> None:
    """The bank returns it: orders hears of both, in every order of arrival, and the amount can be refunded anew."""
    order = await shop.order()
    intent = await shop.paid(order)
    if late:
        refund = (await shop.sandbox.api.v1.refunds.create_async({"payment_intent": intent, "amount": 400})).id
    else:
        await shop.refund("k", intent, 400)
        await shop.work()
        refund = await shop.value("SELECT stripe_refund_id FROM refunds")
    await shop.sandbox.act(f"refunds/{refund}/settle", {"outcome": "fail"})
    for kind in ("refund.failed", "charge.refunded", "refund.created", "refund.updated"):
        about = intent if kind == "charge.refunded" else refund
        await shop.deliver(await shop.event(kind, about))
        await shop.work()
    assert await shop.rows("SELECT amount, state FROM refunds") == [{"amount": 400, "state": "failed"}]
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
    assert await shop.value("SELECT count(*) FROM jobs WHERE state NOT IN ('done')") == 0
    await shop.refund("again", intent)
    await shop.work()
    assert (await shop.sandbox.get("/_sandbox/ledger"))["orders"][order]["refunded"] == TOTAL
    assert await shop.of_orders("SELECT status FROM orders") == "refunded"


async def test_a_refund_made_at_stripe_reaches_the_order_once(shop: Shop) -> None:
    """Somebody used the dashboard: each of its events, twice, and one refund in every book."""
    order = await shop.order()
    intent = await shop.paid(order)
    refund = await shop.sandbox.api.v1.refunds.create_async({"payment_intent": intent})
    made, charge = await shop.event("refund.created", refund.id), await shop.event("charge.refunded", intent)
    for event in (charge, made, made, charge):
        await shop.deliver(event)
        await shop.work()
    assert await shop.rows("SELECT amount, state FROM refunds") == [{"amount": TOTAL, "state": "succeeded"}]
    assert await shop.of_orders("SELECT sum(amount)::int FROM order_refunds") == TOTAL
    assert await shop.of_orders("SELECT status FROM orders") == "refunded"
    with pytest.raises(Problem) as problem:
        await shop.refund("too late", intent, 1)
    assert problem.value.code == "refund_exceeds_charge"


async def test_a_refund_stripe_refuses_is_failed_and_said(shop: Shop) -> None:
    """The dashboard was faster: ours is not tried for ever, and orders knows."""
    intent = await shop.paid(await shop.order())
    await shop.sandbox.api.v1.refunds.create_async({"payment_intent": intent})
    await shop.refund("k", intent, 400)
    await shop.work()
    assert await shop.rows("SELECT state, failure_reason FROM refunds") == [
        {"state": "failed", "failure_reason": "charge_already_refunded"}
    ]
    assert await shop.value("SELECT count(*) FROM jobs WHERE kind = 'report_failed_refund' AND state = 'done'") == 1


async def test_two_refunds_at_once_never_exceed_the_charge(shop: Shop) -> None:
    """Sixteen ask for two thirds each: one gets it."""
    intent = await shop.paid(await shop.order())
    answers = await asyncio.gather(*(shop.refund(f"k{n}", intent, 1000) for n in range(16)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    assert [problem.code for problem in refused] == ["refund_exceeds_charge"] * 15
    await shop.work()
    assert await shop.value("SELECT sum(amount)::int FROM refunds WHERE state = 'succeeded'") == 1000


DISPUTE = ("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed")


@pytest.mark.parametrize(
    "order_of_arrival", list(permutations(DISPUTE)), ids=lambda kinds: "-".join(k[-7:] for k in kinds)
)
async def test_a_dispute_ends_as_it_was_decided(shop: Shop, order_of_arrival: tuple[str, ...]) -> None:
    """Whatever comes last, the row says what the bank said last."""
    intent = await shop.paid(await shop.order())
    dispute = (await shop.sandbox.act(f"payment_intents/{intent}/dispute", {"reason": "product_not_received"}))["id"]
    await shop.sandbox.api.v1.disputes.update_async(dispute, {"evidence": {"uncategorized_text": "winning_evidence"}})
    for kind in order_of_arrival:
        await shop.deliver(await shop.event(kind, dispute))
        await shop.work()
    (shown,) = (await disputes(shop)).items
    assert (shown.id, shown.status, shown.reason) == (dispute, "won", "product_not_received")
    assert (shown.amount.amount, shown.payment_intent_id) == (TOTAL, intent)
    assert (await states(shop))["inbox"] == []


async def test_a_list_says_what_it_was_not_asked_well(shop: Shop) -> None:
    """A page of nothing would be read as: there is no dead letter, there is no other dispute."""
    refused = [
        (listed(shop, state="dead"), "/state"),
        (disputes(shop, cursor="du_none"), "/cursor"),
    ]
    for asked, pointer in refused:
        with pytest.raises(Problem) as problem:
            await asked
        assert problem.value.code == "validation_failed"
        assert [error["pointer"] for error in problem.value.extensions["errors"]] == [pointer]


async def test_disputes_come_in_pages(shop: Shop) -> None:
    """Each once, newest first, and the page after the last is empty."""
    for _ in range(2):
        intent = await shop.paid(await shop.order())
        dispute = (await shop.sandbox.act(f"payment_intents/{intent}/dispute", {"reason": "fraudulent"}))["id"]
        await shop.deliver(await shop.event("charge.dispute.created", dispute))
        await shop.work()
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while (page := await disputes(shop, limit=1, **cursor)).items:
        seen += [shown.id for shown in page.items]
        cursor = {"cursor": page.next_cursor}
    assert sorted(seen) == [row["id"] for row in await shop.rows("SELECT id FROM disputes ORDER BY id")]
    assert len(seen) == 2


async def test_old_events_are_purged_and_waiting_ones_are_not(shop: Shop) -> None:
    """After ninety days an event goes, but never one that was not handled."""
    await shop.paid(await shop.order())
    await shop.deliver(signed({"id": "evt_waits", "type": "charge.refunded", "data": {"object": {"id": "ch_1"}}}))
    await shop.execute("UPDATE inbox SET received_at = now() - interval '91 days'")
    await shop.deliver(signed({"id": "evt_young", "type": "moon.landed", "data": {"object": {"id": "moon_1"}}}))
    run = await shop.payments.worker._schedules[PURGE].call(datetime.now(UTC))
    left = await shop.rows("SELECT event_id FROM inbox ORDER BY id")
    assert (run.processed, left) == (1, [{"event_id": "evt_waits"}, {"event_id": "evt_young"}])


def admin(shop: Shop) -> "payments_pb2_grpc.PaymentsServiceAsyncStub":
    return payments_pb2_grpc.PaymentsServiceStub(shop.connect("admin"))


async def disputes(shop: Shop, **page: Any) -> pb.ListDisputesResponse:
    return await rpc.invoke(admin(shop).ListDisputes, pb.ListDisputesRequest(**page), step="payments.ListDisputes")


async def listed(shop: Shop, **filters: Any) -> pb.ListWebhooksResponse:
    return await rpc.invoke(admin(shop).ListWebhooks, pb.ListWebhooksRequest(**filters), step="payments.ListWebhooks")


async def replay(shop: Shop, webhook: str) -> pb.ReplayWebhookResponse:
    request = pb.ReplayWebhookRequest(webhook_id=webhook, staff_id="someone")
    return await rpc.invoke(admin(shop).ReplayWebhook, request, step="payments.ReplayWebhook")
