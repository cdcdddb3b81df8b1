"""Idempotency keys and faults of the sandbox's API behave as Stripe documents, and as Stripe does on a bad day."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    API_KEY,
    Sandbox,
    receiver_fixture,
    receiver_url_fixture,
    sandbox_fixture,
    sdk,
    servers_fixture,
)

pytestmark = pytest.mark.usefixtures("receiver")
TABLES = ("objects", "outbox", "idempotency")
KEY: Any = {"idempotency_key": "key-1"}
INTENT: Any = {"amount": 1299, "currency": "usd", "metadata": {"order_id": "o-1"}}
OTHER: Any = {**INTENT, "amount": 1300}
BAD: Any = {**INTENT, "amount": -1}
DECLINED: Any = {**INTENT, "confirm": True, "payment_method": "pm_card_chargeDeclined"}


def headers(answered: Any) -> Any:
    """The headers of the SDK's last response."""
    return answered.last_response.headers


async def test_the_same_key_gets_the_first_answer(sandbox: Sandbox) -> None:
    """One intent, two equal answers; the second says that it is a replay and of which request."""
    api = sandbox.api.v1.payment_intents
    first = await api.create_async(INTENT, KEY)
    second = await api.create_async(INTENT, KEY)
    assert first.to_dict() == second.to_dict()
    assert "idempotent-replayed" not in headers(first)
    assert headers(second)["idempotent-replayed"] == "true"
    assert headers(second)["original-request"] == headers(first)["request-id"]
    assert headers(second)["request-id"] != headers(first)["request-id"]
    assert len((await api.list_async()).data) == 1
    assert await sandbox.event_types() == ["payment_intent.created"]


async def test_a_key_is_bound_to_its_parameters_and_endpoint(sandbox: Sandbox) -> None:
    """IdempotencyError for other parameters and for another endpoint; nothing is made."""
    await sandbox.api.v1.payment_intents.create_async(INTENT, KEY)
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        await sandbox.api.v1.payment_intents.create_async(OTHER, KEY)
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        await sandbox.api.v1.customers.create_async({}, KEY)
    assert await sandbox.event_types() == ["payment_intent.created"]


async def test_a_decline_is_replayed_without_a_second_attempt(sandbox: Sandbox) -> None:
    """A 402 is an answer like any other: the same key never tries the card again."""
    for replayed in (None, "true"):
        with pytest.raises(stripe.CardError) as caught:
            await sandbox.api.v1.payment_intents.create_async(DECLINED, KEY)
        assert (caught.value.headers or {}).get("idempotent-replayed") == replayed
    assert (await sandbox.event_types()).count("charge.failed") == 1


async def test_an_error_of_state_is_replayed(sandbox: Sandbox) -> None:
    """A 400 after execution began is kept: the same key does not see that the state has changed since."""
    intent = await sandbox.intent()
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
            await sandbox.api.v1.refunds.create_async({"payment_intent": intent.id}, KEY)
        if (await sandbox.api.v1.payment_intents.retrieve_async(intent.id)).status != "succeeded":
            await sandbox.pay(intent.id)
    assert (await sandbox.get("/_sandbox/ledger"))["refunds"]["count"] == 0


async def test_a_refused_confirmation_leaves_nothing_behind(sandbox: Sandbox) -> None:
    """An error of state undoes what the call had begun, here the payment method made from a token."""
    intent = await sandbox.intent(confirm=True, payment_method="pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError):
        await sandbox.api.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"}, KEY)
    assert len((await sandbox.api.v1.payment_methods.list_async()).data) == 1


@pytest.mark.parametrize("crash_point", ["objects WHEN NEW.kind = 'event'", "outbox", "idempotency"])
async def test_effect_event_and_key_are_one_transaction(sandbox: Sandbox, tmp_path: Path, crash_point: str) -> None:
    """Interrupted at any of its writes, a call has written nothing, and the same key does the work later."""
    table, _, condition = crash_point.partition(" ")
    with contextlib.closing(sqlite3.connect(tmp_path / "stripe.db", isolation_level=None)) as beside:
        beside.execute(
            f"CREATE TRIGGER crash BEFORE INSERT ON {table} {condition} BEGIN SELECT RAISE(ABORT, 'crash point'); END"
        )
        with pytest.raises(stripe.APIError):
            await sandbox.api.v1.payment_intents.create_async(INTENT, KEY)
        written = [beside.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES]
        assert written == [0, 0, 0]
        beside.execute("DROP TRIGGER crash")
    await sandbox.api.v1.payment_intents.create_async(INTENT, KEY)
    assert await sandbox.event_types() == ["payment_intent.created"]


async def test_a_refused_parameter_does_not_use_up_the_key(sandbox: Sandbox) -> None:
    """Validation comes before execution, so the corrected call may use the key."""
    api = sandbox.api.v1.payment_intents
    with pytest.raises(stripe.InvalidRequestError):
        await api.create_async(BAD, KEY)
    assert (await api.create_async(INTENT, KEY)).amount == 1299


async def test_keys_are_forgotten_after_a_day(sandbox: Sandbox) -> None:
    """The same key after 24 hours is a new call: a second intent."""
    api = sandbox.api.v1.payment_intents
    first = await api.create_async(INTENT, KEY)
    sandbox.clock.ahead += 24 * 3600 - 60
    assert (await api.create_async(INTENT, KEY)).id == first.id
    sandbox.clock.ahead += 120
    assert (await api.create_async(INTENT, KEY)).id != first.id


async def test_a_key_in_use_is_refused(sandbox: Sandbox) -> None:
    """While the first call runs, a second gets 409 idempotency_key_in_use; afterwards the answer."""
    await sandbox.fault(on="api", method="POST", path="/v1/payment_intents", fault="delay", seconds=0.3)
    api = sandbox.api.v1.payment_intents
    answers = await asyncio.gather(*(api.create_async(INTENT, KEY) for _ in range(2)), return_exceptions=True)
    made = [each for each in answers if isinstance(each, stripe.PaymentIntent)]
    refused = [each for each in answers if isinstance(each, stripe.StripeError)]
    assert [len(made), len(refused)] == [1, 1]
    assert refused[0].http_status == 409
    assert refused[0].error is not None
    assert (refused[0].error.code, refused[0].error.type) == ("idempotency_key_in_use", "idempotency_error")
    assert (await api.create_async(INTENT, KEY)).id == made[0].id


async def test_twenty_at_once_make_one_intent(sandbox: Sandbox) -> None:
    """Whatever the interleaving, one key makes one intent."""
    api = sdk(sandbox.url, retries=2).v1.payment_intents
    made = await asyncio.gather(*(api.create_async(INTENT, KEY) for _ in range(20)))
    assert len({each.id for each in made}) == 1
    assert (await sandbox.event_types()) == ["payment_intent.created"]


async def test_a_timeout_after_the_effect_has_done_the_work(sandbox: Sandbox) -> None:
    """The client gives up, the intent exists, and the retry with the same key gets it."""
    await sandbox.fault(on="api", method="POST", path="/v1/payment_intents", fault="timeout_after_effect")
    impatient = sdk(sandbox.url, timeout=0.3).v1.payment_intents
    with pytest.raises(stripe.APIConnectionError):
        await impatient.create_async(INTENT, KEY)
    assert await sandbox.event_types() == ["payment_intent.created"]
    retried = await impatient.create_async(INTENT, KEY)
    assert headers(retried)["idempotent-replayed"] == "true"
    assert len((await impatient.list_async()).data) == 1


@pytest.mark.parametrize("fault", ["timeout_before_effect", "connection_reset", "429", "500_before_effect"])
async def test_faults_before_the_effect_leave_no_trace(sandbox: Sandbox, fault: str) -> None:
    """The call fails with the class the SDK has for it, and nothing was written."""
    await sandbox.fault(on="api", method="POST", path="/v1/payment_intents*", fault=fault, times=1)
    errors = {"429": stripe.RateLimitError, "500_before_effect": stripe.APIError}
    with pytest.raises(errors.get(fault, stripe.APIConnectionError)):
        await sdk(sandbox.url, timeout=0.3).v1.payment_intents.create_async(INTENT)
    assert await sandbox.event_types() == []
    assert (await sandbox.intent()).amount == 1299
    assert (await sandbox.get("/_sandbox/faults"))[0]["remaining"] == 0


async def test_a_reset_connection_is_recovered_by_the_sdk(sandbox: Sandbox) -> None:
    """The SDK's own retry gets through, with one intent made."""
    await sandbox.fault(on="api", fault="connection_reset")
    assert (await sdk(sandbox.url, retries=1).v1.payment_intents.create_async(INTENT)).amount == 1299
    assert await sandbox.event_types() == ["payment_intent.created"]


async def test_a_500_after_the_effect_is_kept_and_replayed(sandbox: Sandbox) -> None:
    """The work is done, the answer lost for good: the key replays the 500, the intent is found by metadata."""
    await sandbox.fault(on="api", method="POST", path="/v1/payment_intents", fault="500")
    api = sdk(sandbox.url, retries=2).v1.payment_intents
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as caught:
            await api.create_async(INTENT, KEY)
        assert caught.value.http_status == 500
        assert caught.value.headers is not None
        assert caught.value.headers.get("idempotent-replayed") == replayed
        assert caught.value.headers["stripe-should-retry"] == "false"
    found = await api.search_async({"query": "metadata['order_id']:'o-1'"})
    assert len(found.data) == 1


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ({"on": "webhook", "fault": "explode"}, "delay, drop, duplicate, reorder"),
        ({"on": "api", "fault": "drop"}, "timeout_after_effect"),
        ({"on": "moon", "fault": "drop"}, '"api" or "webhook"'),
        ({"on": [], "fault": "drop"}, '"api" or "webhook"'),
        ({"on": "api", "fault": "429", "tpye": "x"}, "method"),
        ({"on": "webhook", "fault": "duplicate", "copies": 0}, "copies"),
        ({"on": "webhook", "fault": "delay", "seconds": True}, "seconds"),
        ({"on": "api", "fault": "429", "path": 5}, "path"),
    ],
)
async def test_a_fault_nobody_knows_is_refused(sandbox: Sandbox, order: dict[str, Any], named: str) -> None:
    """An order that would do nothing is an error that names what can be ordered."""
    answer = await sandbox.act("faults", order, 400)
    assert named in answer["error"]["message"]
    assert await sandbox.get("/_sandbox/faults") == []


async def test_orders_are_withdrawn_and_everything_is_forgotten(sandbox: Sandbox) -> None:
    """DELETE clears the faults; reset clears the books, keys included."""
    await sandbox.fault(on="api", fault="429", times=3)
    assert (await sandbox.http.delete("/_sandbox/faults")).json() == {"cleared": 1}
    first = await sandbox.api.v1.payment_intents.create_async(INTENT, KEY)
    await sandbox.act("reset")
    assert await sandbox.event_types() == []
    assert (await sandbox.api.v1.payment_intents.create_async(INTENT, KEY)).id != first.id
