"""Stripe answers late, twice, wrongly or not at all: there is one intent per payment and one refund per refund."""

import contextlib

import pytest

from reliability.circuit_breaker import State, breakers
from reliability.errors import Problem
from tests.integration.payments.conftest import Shop

INTENTS, REFUNDS = "/v1/payment_intents", "/v1/refunds"
FORGOTTEN_SECONDS = 25 * 3600


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(shop: Shop) -> None:
    """The connection breaks twice; the third attempt of the same call gets the one intent."""
    await shop.sandbox.fault(on="api", method="POST", path=INTENTS, fault="connection_reset", times=2)
    await shop.create_intent(await shop.order())
    assert (len(await shop.intents()), await shop.faults_left()) == (1, 0)


async def test_one_layer_tries_again(shop: Shop) -> None:
    """Three attempts reach Stripe, not nine: the SDK's own retries are off."""
    await shop.sandbox.fault(on="api", method="POST", path=INTENTS, fault="connection_reset", times=20)
    with pytest.raises(Problem) as problem:
        await shop.create_intent(await shop.order())
    assert problem.value.status == 503
    assert await shop.faults_left() == 17


async def test_who_fails_too_often_is_left_alone(shop: Shop) -> None:
    """Five failures open the breaker, which is listed; the next call does not reach Stripe."""
    await shop.sandbox.fault(on="api", fault="connection_reset", times=20)
    order = await shop.order()
    for _ in range(2):
        with pytest.raises(Problem):
            await shop.create_intent(order)
    assert await shop.faults_left() == 15
    assert State.OPEN in [breaker.state for breaker in breakers() if breaker.name == "stripe"]
    with pytest.raises(Problem) as problem:
        await shop.create_intent(order)
    assert (problem.value.code, await shop.faults_left()) == ("circuit_open", 15)


@pytest.mark.parametrize("fault", ["500", "500_before_effect"])
async def test_a_stored_failure_is_looked_behind(shop: Shop, fault: str) -> None:
    """Stripe repeats its 500 for a day; a lookup tells whether the intent was made, and there is one in the end."""
    order = await shop.order()
    await shop.sandbox.fault(on="api", method="POST", path=INTENTS, fault=fault)
    intents = set()
    for _ in range(4):
        with contextlib.suppress(Problem):
            intents.add((await shop.create_intent(order)).payment_intent_id)
    assert intents == {intent.id for intent in await shop.intents()}
    assert len(intents) == 1


async def test_an_old_key_is_not_trusted_with_an_intent(shop: Shop) -> None:
    """A day later Stripe has forgotten the key: the intent is looked up by its metadata instead of made again."""
    order = await shop.order()
    first = await shop.create_intent(order)
    await shop.execute(
        """
        UPDATE payments SET payment_intent_id = NULL, client_secret = NULL, state = 'creating',
                            created_at = now() - interval '25 hours'
        """
    )
    shop.sandbox.clock.ahead = FORGOTTEN_SECONDS
    assert (await shop.create_intent(order)).payment_intent_id == first.payment_intent_id
    assert len(await shop.intents()) == 1


@pytest.mark.parametrize("fault", ["500", "500_before_effect", "connection_reset", "429"])
async def test_a_refund_is_made_once_whatever_stripe_answers(shop: Shop, fault: str) -> None:
    """The money goes back once, and orders hears of it."""
    order = await shop.order()
    intent = await shop.paid(order)
    await shop.sandbox.fault(on="api", method="POST", path=REFUNDS, fault=fault)
    await shop.refund("k", intent, 400)
    for _ in range(5):
        await shop.execute("UPDATE jobs SET run_at = now() WHERE state = 'queued' AND kind LIKE '%refund'")
        await shop.work()
    assert await shop.rows("SELECT amount, state FROM refunds") == [{"amount": 400, "state": "succeeded"}]
    account = (await shop.sandbox.get("/_sandbox/ledger"))["orders"][order]
    assert (account["refunds"], account["refunded"]) == (1, 400)
    assert await shop.of_orders("SELECT sum(amount) FROM order_refunds") == 400


async def test_an_old_key_is_not_trusted_with_a_refund(shop: Shop) -> None:
    """We died after Stripe made the refund, and came back when it had forgotten the key."""
    order = await shop.order()
    intent = await shop.paid(order)
    await shop.refund("k", intent, 400)
    await shop.work()
    await shop.execute(
        "UPDATE refunds SET state = 'pending', stripe_refund_id = NULL, created_at = now() - interval '25 hours'"
    )
    await shop.execute(
        "UPDATE jobs SET state = 'queued', finished_at = NULL, run_at = now() WHERE kind = 'create_refund'"
    )
    shop.sandbox.clock.ahead = FORGOTTEN_SECONDS
    await shop.work()
    account = (await shop.sandbox.get("/_sandbox/ledger"))["orders"][order]
    assert (account["refunds"], await shop.value("SELECT state FROM refunds")) == (1, "succeeded")
