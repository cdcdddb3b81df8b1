"""What Stripe did and nobody told us is found, mended through the inbox, and written down, once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import rpc
from reliability.jobs import Run
from services.payments_webhooks.reconcile import service as reconciling
from tests.integration.payments.conftest import TOTAL, Shop


async def reconcile(shop: Shop, *, ahead: float = 120.0) -> Run:
    """As the schedule does it, some time later: events must be older than the grace."""
    schedule = shop.payments.worker._schedules["reconcile_payments"]
    run = await schedule.call(datetime.now(UTC) + timedelta(seconds=ahead))
    await shop.work()
    return run


async def drift(shop: Shop) -> list[dict[str, Any]]:
    return await shop.rows("SELECT kind, repaired FROM drift ORDER BY id")


async def paid_in_silence(shop: Shop) -> str:
    """The customer paid; not one webhook came. The order."""
    order = await shop.order()
    intent = (await shop.create_intent(order)).payment_intent_id
    await shop.sandbox.pay(intent)
    return order


async def test_a_lost_webhook_is_found(shop: Shop) -> None:
    """The order is paid in the end; every missing event that has an effect is a row; the second run finds nothing."""
    await paid_in_silence(shop)
    run = await reconcile(shop)
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
    assert await shop.value("SELECT state FROM payments") == "succeeded"
    assert [row for row in await drift(shop) if row["kind"] == "missing_event"] == [
        {"kind": "missing_event", "repaired": True}
    ] * 2
    assert run.failed == 0
    assert await reconcile(shop) == Run(0, 0)
    assert await shop.of_orders("SELECT sum(amount)::int FROM order_payments") == TOTAL


async def test_a_webhook_that_is_on_its_way_is_no_drift(shop: Shop) -> None:
    """What happened a moment ago is left to the webhook, and taken in by a later run if it does not come."""
    await paid_in_silence(shop)
    assert await reconcile(shop, ahead=0) == Run(0, 0)
    assert await drift(shop) == []
    await reconcile(shop)
    assert await shop.of_orders("SELECT status FROM orders") == "paid"


async def test_every_worker_tells_how_far_the_books_were_compared(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the one that compared them: a worker that was started since would tell nothing, and raise the alert."""
    told: list[float] = []
    monkeypatch.setattr(reconciling._until, "set", told.append)
    (observe,) = shop.payments.worker._observers
    await observe()
    assert told == []
    await reconcile(shop)
    await observe()
    assert told == [(await shop.value("SELECT watermark FROM reconciliation")).timestamp()]


async def test_two_reconcilers_at_once_do_it_once(shop: Shop) -> None:
    """Four of them, and the webhooks come as well: each event is stored once, each difference noted once."""
    orders = [await paid_in_silence(shop) for _ in range(3)]
    events = [await shop.event("payment_intent.succeeded", order) for order in orders]
    schedule = shop.payments.worker._schedules["reconcile_payments"]
    now = datetime.now(UTC) + timedelta(seconds=120)
    runs = await asyncio.gather(*(schedule.call(now) for _ in range(4)), shop.deliver(*events))
    await shop.work()
    stored = await shop.value("SELECT count(*) FROM inbox WHERE event_id LIKE 'evt%'")
    assert stored == await shop.value("SELECT count(DISTINCT event_id) FROM inbox WHERE event_id LIKE 'evt%'") == 6
    assert sum(run.processed for run in runs if run) == len(await drift(shop))
    assert await shop.of_orders("SELECT count(*) FROM orders WHERE status = 'paid'") == 3
    assert await shop.of_orders("SELECT sum(amount)::int FROM order_payments") == 3 * TOTAL


async def test_more_than_a_page_is_read_to_its_end(shop: Shop) -> None:
    """Sixty silent payments make 180 events on two pages; all of them arrive."""
    for _ in range(60):
        await paid_in_silence(shop)
    await reconcile(shop)
    assert await shop.of_orders("SELECT count(*) FROM orders WHERE status = 'paid'") == 60


async def test_a_payment_that_stripe_lists_no_event_of_is_compared_by_itself(shop: Shop) -> None:
    """Paid long ago, its events beyond Stripe's thirty days: the intent itself is asked."""
    await paid_in_silence(shop)
    await shop.execute("INSERT INTO reconciliation (watermark) VALUES (now() + interval '3 hours')")
    await shop.execute("UPDATE payments SET created_at = now() - interval '40 days'")
    await reconcile(shop, ahead=4 * 3600.0)
    assert await shop.of_orders("SELECT status FROM orders") == "paid"
    assert await drift(shop) == [{"kind": "state_differs", "repaired": True}]


async def test_a_payment_that_stripe_never_heard_of_holds_up_no_other(shop: Shop) -> None:
    """It is the one looked at first, each time; it is written down, and the one behind it is mended."""
    await shop.create_intent(await shop.order())
    await shop.execute("UPDATE payments SET payment_intent_id = 'pi_unknown', created_at = now() - interval '50 days'")
    await paid_in_silence(shop)
    await shop.execute("INSERT INTO reconciliation (watermark) VALUES (now() + interval '3 hours')")
    await shop.execute("UPDATE payments SET created_at = created_at - interval '40 days'")
    await reconcile(shop, ahead=4 * 3600.0)
    assert await shop.of_orders("SELECT count(*) FROM orders WHERE status = 'paid'") == 1
    assert await shop.rows("SELECT subject, stripes, repaired FROM drift WHERE stripes = 'unknown'") == [
        {"subject": "pi_unknown", "stripes": "unknown", "repaired": False}
    ]


async def test_an_amount_that_differs_is_shown_and_left_alone(shop: Shop) -> None:
    """Which side is right is for a person to say."""
    intent = (await shop.create_intent(await shop.order())).payment_intent_id
    await shop.sandbox.api.v1.payment_intents.update_async(intent, {"amount": 1})
    await reconcile(shop)  # takes in the event that made it; what waits to be handled is not compared
    assert await reconcile(shop) == Run(1, 1)
    assert {"kind": "amount_differs", "repaired": False} in await drift(shop)
    stub = payments_pb2_grpc.PaymentsServiceStub(shop.connect("admin"))
    shown = (await rpc.invoke(stub.ListDrift, pb.ListDriftRequest(limit=1), step="payments.ListDrift")).items
    assert [(row.kind, row.ours, row.stripes) for row in shown] == [("amount_differs", "1500 USD", "1 USD")]


async def test_a_gap_that_stripe_no_longer_lists_is_said(shop: Shop) -> None:
    """A watermark of two months ago: what can be read is read, and that a month is missing is a row."""
    await paid_in_silence(shop)
    await shop.execute("INSERT INTO reconciliation (watermark) VALUES (now() - interval '60 days')")
    await reconcile(shop)
    assert {"kind": "beyond_reach", "repaired": False} in await drift(shop)
    assert await shop.of_orders("SELECT status FROM orders") == "paid"


async def test_ten_days_without_a_reconciler_are_made_up_for(shop: Shop) -> None:
    """Whoever looks back a fixed time misses what was sent before: every event since the last run is taken in."""
    await reconcile(shop, ahead=-3600.0)
    await paid_in_silence(shop)
    await reconcile(shop, ahead=10 * 24 * 3600.0)
    assert [row["kind"] for row in await drift(shop)] == ["missing_event"] * 2


async def test_the_watermark_moves_only_when_all_was_taken_in(shop: Shop) -> None:
    """Stripe fails between the pages: the next run begins where this one did, and nothing is lost."""
    for _ in range(40):
        await paid_in_silence(shop)
    await reconcile(shop, ahead=-3600.0)
    before = await shop.value("SELECT watermark FROM reconciliation")
    original = shop.sandbox.fault
    await original(on="api", method="GET", path="/v1/payment_intents", fault="500", times=3)
    with pytest.raises(Exception, match="Stripe"):
        await reconcile(shop)
    assert await shop.value("SELECT watermark FROM reconciliation") == before
    await reconcile(shop)
    assert await shop.value("SELECT watermark FROM reconciliation") > before
    assert await shop.of_orders("SELECT count(*) FROM orders WHERE status = 'paid'") == 40


async def test_a_watermark_never_goes_back(shop: Shop) -> None:
    """A reconciler that began earlier and ended later changes nothing."""
    await reconcile(shop)
    later = await shop.value("SELECT watermark FROM reconciliation")
    await reconcile(shop, ahead=-3600.0)
    assert await shop.value("SELECT watermark FROM reconciliation") == later


async def test_it_can_be_asked_for(shop: Shop) -> None:
    """By admin's RPC: a job, done once."""
    stub = payments_pb2_grpc.PaymentsServiceStub(shop.connect("admin"))
    await rpc.invoke(stub.Reconcile, pb.ReconcileRequest(staff_id="someone"), step="payments.Reconcile")
    await shop.work()
    assert await shop.value("SELECT count(*) FROM jobs WHERE kind = 'reconcile' AND state = 'done'") == 1
    assert await shop.value("SELECT count(*) FROM reconciliation") == 1
    assert await shop.audited() == [("someone", "payments.reconciled", "stripe")]
