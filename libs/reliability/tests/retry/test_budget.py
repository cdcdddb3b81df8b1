"""A budget for retries: an outage does not become a storm."""

import asyncio

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.reliability.tests.retry.support import Clock, Failing, from_peer, no_jitter
from reliability.retry import RetryBudget, retry


@given(st.lists(st.booleans()), st.integers(1, 20), st.floats(0.001, 3))
def test_a_budget_follows_grpcs_rules(outcomes: list[bool], most: int, ratio: float) -> None:
    """One token for a failure, `ratio` for a success, never outside its bounds; above half retries are allowed."""
    budget, tokens = RetryBudget(most, ratio), float(most)
    for succeeded in outcomes:
        if succeeded:
            budget.succeeded()
            tokens = min(most, tokens + ratio)
        else:
            budget.failed()
            tokens = max(0.0, tokens - 1)
        assert budget.tokens == pytest.approx(tokens)
        assert budget.allows == (budget.tokens > most / 2)


async def test_a_storm_cannot_build(clock: Clock) -> None:
    """A thousand callers of a dependency that is down: a thousand calls and five retries, not three thousand."""
    budget = RetryBudget(10, 0.1)
    call = Failing(*[ConnectionRefusedError()] * 5000)
    results = await asyncio.gather(
        *(retry(call, budget=budget, uniform=no_jitter, sleep=clock.sleep, seconds=1e6) for _ in range(1000)),
        return_exceptions=True,
    )
    assert all(isinstance(result, ConnectionRefusedError) for result in results)
    assert 1000 < call.calls <= 1005


async def test_successes_earn_retries_back(clock: Clock) -> None:
    """Spent after five failures; ten successes later one more is allowed."""
    budget = RetryBudget(10, 0.1)

    async def outage() -> int:
        call = Failing(*[ConnectionRefusedError()] * 9)
        with pytest.raises(ConnectionRefusedError):
            await retry(call, attempts=9, budget=budget, sleep=clock.sleep)
        return call.calls

    assert [await outage(), await outage()] == [5, 1]
    for _ in range(30):
        await retry(Failing(), budget=budget)
    assert await outage() == 2


async def test_who_never_retries_has_no_say_in_the_budget() -> None:
    """A health check that asks a dead service every second must not take the retries of the others."""
    budget = RetryBudget(10)
    with pytest.raises(ConnectionRefusedError):
        await retry(Failing(ConnectionRefusedError()), attempts=1, budget=budget)
    assert budget.tokens == 10


async def test_a_peer_that_forbids_retries_is_one_that_is_overloaded() -> None:
    """Negative pushback is not tried again, and costs a token all the same (gRFC A6, "Throttling")."""
    budget = RetryBudget(10)
    call = Failing(*[from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1"))] * 3)
    with pytest.raises(grpc.aio.AioRpcError):
        await retry(call, budget=budget, idempotent=True)
    assert (call.calls, budget.tokens) == (1, 9)
    with pytest.raises(grpc.aio.AioRpcError):
        await retry(Failing(from_peer(grpc.StatusCode.NOT_FOUND)), budget=budget)
    assert budget.tokens == 9
