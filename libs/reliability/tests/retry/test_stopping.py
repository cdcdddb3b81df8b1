"""When there is no further attempt."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.reliability.tests.retry.support import Clock, Failing, no_jitter
from reliability import deadline
from reliability.errors import DeadlineExceeded, RateLimited, Unavailable
from reliability.retry import SAFE, UNKNOWN, Verdict, previous_attempts, retry

WAIT = st.floats(0, 5)


async def test_three_attempts_and_then_the_last_error_as_it_was(clock: Clock) -> None:
    """The default; the fourth is never made."""
    errors = [ConnectionRefusedError(str(number)) for number in range(4)]
    call = Failing(*errors)
    with pytest.raises(ConnectionRefusedError) as raised:
        await retry(call, sleep=clock.sleep)
    assert (call.calls, raised.value) == (3, errors[2])


async def test_an_error_nobody_knows_is_raised_at_once() -> None:
    """A bug does not get better by repeating it."""
    call = Failing(ZeroDivisionError(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await retry(call, idempotent=True)
    assert call.calls == 1


@pytest.mark.parametrize(
    ("verdict", "idempotent", "calls"), [(UNKNOWN, False, 1), (UNKNOWN, True, 3), (SAFE, False, 3)]
)
async def test_what_may_have_happened_is_repeated_only_when_idempotent(
    clock: Clock, verdict: Verdict, idempotent: bool, calls: int
) -> None:
    """What certainly did not happen may always be."""
    call = Failing(*[ValueError()] * 3)
    with pytest.raises(ValueError):
        await retry(call, retryable=lambda _: verdict, idempotent=idempotent, sleep=clock.sleep)
    assert call.calls == calls


async def test_a_predicate_vouches_for_what_it_lets_pass(clock: Clock) -> None:
    """True is enough; what a problem asks for is waited for all the same."""
    call = Failing(RateLimited(retry_after=2.0))
    assert await retry(call, retryable=lambda _: True, uniform=no_jitter, sleep=clock.sleep) == "done"
    assert clock.slept == [2.0]


@given(
    granted=st.floats(0.01, 20), least=st.floats(0, 2), steps=st.lists(st.tuples(WAIT, WAIT), min_size=1, max_size=12)
)
def test_no_attempt_begins_that_cannot_end(granted: float, least: float, steps: list[tuple[float, float]]) -> None:
    """Whatever calls take and servers ask for: each attempt begins with `least` left, and no wait passes the end."""
    clock = Clock()
    began: list[float] = []
    plan = iter(steps)

    async def call() -> None:
        began.append(clock.now)
        taken, asked = next(plan, (0.0, 0.0))
        clock.now += taken
        raise Unavailable(retry_after=asked)

    async def scenario() -> None:
        with deadline.deadline_scope(granted), pytest.raises(Unavailable):
            await retry(call, idempotent=True, attempts=12, seconds=100, least=least, sleep=clock.sleep)

    end = clock.now + granted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock.now))
        asyncio.run(scenario())
    assert all(end - instant >= least - 1e-6 for instant in began[1:])
    assert sum(clock.slept) <= granted


async def test_nothing_is_called_when_time_is_up(clock: Clock) -> None:
    """Not even once; the error names the step."""
    call = Failing()
    with deadline.deadline_scope(1):
        clock.now += 2
        with pytest.raises(DeadlineExceeded) as exceeded:
            await retry(call, step="catalog.HoldStock")
        with pytest.raises(DeadlineExceeded):
            await retry(call)
    assert (call.calls, exceeded.value.extensions) == (0, {"step": "catalog.HoldStock"})


async def test_a_sleep_that_takes_too_long_is_not_followed_by_an_attempt(clock: Clock) -> None:
    """A loop that is late must not begin what cannot end."""

    async def oversleep(seconds: float) -> None:
        clock.now += seconds + 60

    call = Failing(ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        await retry(call, sleep=oversleep)
    assert call.calls == 1


async def test_a_call_that_ignores_its_deadline_is_ended_and_named() -> None:
    """With a step, retry itself holds the deadline."""
    with pytest.raises(DeadlineExceeded) as exceeded:
        await retry(lambda: asyncio.Event().wait(), step="resend.send", seconds=0.01, least=0)
    assert exceeded.value.extensions == {"step": "resend.send"}


async def test_all_attempts_share_one_deadline(clock: Clock) -> None:
    """The second finds what the first has left."""
    left: list[float] = []

    async def call() -> None:
        left.append(deadline.remaining(100))
        clock.now += 2
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await retry(call, seconds=5, uniform=no_jitter, sleep=clock.sleep)
    assert left == pytest.approx([5, 3, 1])


async def test_a_cancelled_retry_stops_where_it_is() -> None:
    """In the call and in the wait between two; the attempt number does not leak."""
    waiting = asyncio.Event()

    async def forever(_seconds: float = 0.0) -> None:
        waiting.set()
        await asyncio.Event().wait()

    for call, sleep in ((forever, asyncio.sleep), (Failing(ConnectionRefusedError()), forever)):
        waiting.clear()
        task: asyncio.Task[Any] = asyncio.ensure_future(retry(call, sleep=sleep))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert previous_attempts() == 0


async def test_zero_attempts_are_refused() -> None:
    """A call that is never made has no answer."""
    with pytest.raises(ValueError, match="at least 1"):
        await retry(Failing(), attempts=0)
