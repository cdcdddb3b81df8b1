"""A dependency that fails is given a rest, tried again with care, and never judged by what callers did to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.reliability.tests.support import DistantCache, eventually
from reliability.asgi.middleware import problem_response
from reliability.bulkhead import Overloaded
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Outcome, Permit, Rules, State, breakers, judge
from reliability.circuit_breaker.sharing import share
from reliability.errors import DeadlineExceeded, Internal, NotFound, Unavailable
from reliability.redis import Cache
from reliability.telemetry import span
from reliability.testing import FakeClock

if TYPE_CHECKING:
    from conftest import Servers

THREE = Rules(failures=3, window=60.0, open_seconds=5.0, open_cap=60.0, jitter=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """Opens at 3 failures in 60 s, for exactly 5."""
    return guard(clock)


def guard(clock: FakeClock, rules: Rules = THREE, **options: Any) -> CircuitBreaker:
    return CircuitBreaker("stripe", rules, now=clock, wall=clock.time, **options)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.allow().failure(ConnectionError())


def refuses(breaker: CircuitBreaker) -> bool:
    """Whether a call is refused; one that is not is given back."""
    try:
        breaker.allow().give_back()
    except CircuitOpen:
        return True
    return False


def state_of(breaker: CircuitBreaker) -> State:
    """Asked anew each time, where a type checker believes that nothing changes."""
    return breaker.state


def half_open(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """As after an opening whose time is up."""
    fail(breaker, 3)
    clock.advance(breaker.open_for)


# Opening


def test_three_failures_within_a_minute_open_it_and_two_do_not(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """However many calls succeed between them."""
    fail(breaker, 2)
    for _ in range(100):
        breaker.allow().success()
    assert state_of(breaker) is State.CLOSED
    clock.advance(59.9)
    fail(breaker)
    assert state_of(breaker) is State.OPEN
    assert refuses(breaker)


def test_a_failure_is_forgotten_after_the_window(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One failure each half minute never opens it."""
    for _ in range(50):
        fail(breaker)
        clock.advance(30.0)
    assert state_of(breaker) is State.CLOSED


def test_a_refused_call_is_a_503_with_the_seconds_to_wait(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """And never gets to the dependency."""
    fail(breaker, 3)
    clock.advance(1.5)
    with pytest.raises(CircuitOpen) as refused:
        breaker.allow()
    status, headers, body = problem_response(refused.value)
    assert status == 503
    assert (b"retry-after", b"4") in headers
    assert orjson.loads(body)["code"] == "circuit_open"
    assert refused.value.grpc == "UNAVAILABLE"
    assert isinstance(refused.value, Unavailable)


def test_a_failure_rate_opens_it_from_the_minimum_of_calls_on(clock: FakeClock) -> None:
    """Half of nineteen calls is no share of anything yet."""
    breaker = guard(clock, Rules(failures=None, failure_rate=0.5, minimum_calls=20))
    for _ in range(9):
        breaker.allow().success()
        fail(breaker)
    assert state_of(breaker) is State.CLOSED
    breaker.allow().success()
    fail(breaker)
    assert (breaker.state, breaker.reason) == (State.OPEN, "failure rate")


def test_a_failure_rate_speaks_of_the_window_only(clock: FakeClock) -> None:
    """What was long ago neither opens it nor keeps it closed."""
    rules = Rules(failures=None, failure_rate=0.5, minimum_calls=10, window=60.0)
    breaker = guard(clock, rules)
    fail(breaker, 9)
    clock.advance(61.0)
    for _ in range(9):
        breaker.allow().success()
    fail(breaker)
    assert state_of(breaker) is State.CLOSED
    clock.advance(61.0)
    fail(breaker, 10)
    assert state_of(breaker) is State.OPEN


def test_slow_answers_open_it_like_failures_do(clock: FakeClock) -> None:
    """Each call is timed from its own permit."""
    breaker = guard(clock, Rules(failures=None, slow_rate=0.5, slow_seconds=2.0, minimum_calls=4))
    quick = [breaker.allow(), breaker.allow()]
    for permit in quick:
        permit.success()
    slow = [breaker.allow(), breaker.allow()]
    clock.advance(1.0)
    breaker.allow().success()
    clock.advance(1.0)
    slow[0].success()
    assert state_of(breaker) is State.CLOSED
    slow[1].failure(NotFound())  # an answer, but late
    assert state_of(breaker) is State.CLOSED
    late = breaker.allow()
    clock.advance(2.0)
    late.success()
    assert (breaker.state, breaker.reason) == (State.OPEN, "slow calls")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionError(), Outcome.FAILED),
        (TimeoutError(), Outcome.FAILED),
        (DeadlineExceeded("stripe"), Outcome.FAILED),
        (Internal(), Outcome.FAILED),
        (Unavailable(), Outcome.FAILED),
        (NotFound(), Outcome.SUCCEEDED),
        (Overloaded(), Outcome.NEUTRAL),
        (CircuitOpen(), Outcome.NEUTRAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_answers_are_no_failures_and_what_was_never_asked_is_nothing(error: Exception, outcome: Outcome) -> None:
    """A 404 says that the dependency is well; a full bulkhead of our own says nothing about it."""
    assert judge(error) is outcome


def test_the_judge_can_be_another(clock: FakeClock) -> None:
    """Whoever knows the dependency knows better."""
    breaker = guard(clock, judge=lambda error: Outcome.FAILED if isinstance(error, KeyError) else Outcome.NEUTRAL)
    fail(breaker, 10)
    assert state_of(breaker) is State.CLOSED
    for _ in range(3):
        with suppress(KeyError), breaker.allow():
            raise KeyError
    assert state_of(breaker) is State.OPEN


# Cancellation


@pytest.mark.parametrize("timed", [False, True])
async def test_three_impatient_clients_do_not_open_it(clock: FakeClock, timed: bool) -> None:
    """A cancelled call says something about who made it, nothing about the dependency."""
    rules = Rules(slow_rate=0.1, minimum_calls=1) if timed else THREE
    breaker = guard(clock, rules)
    tasks = [asyncio.create_task(breaker.call(asyncio.Event().wait)) for _ in range(50)]
    await asyncio.sleep(0)
    clock.advance(30.0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert (breaker.state, breaker.snapshot().failures) == (State.CLOSED, 0)


async def test_a_cancelled_probe_gives_its_permit_back(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """It neither closes nor opens it again, and the next caller may try."""
    half_open(breaker, clock)
    probe = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    assert refuses(breaker)
    probe.cancel()
    with suppress(asyncio.CancelledError):
        await probe
    assert state_of(breaker) is State.HALF_OPEN
    await breaker.call(_answer)
    assert state_of(breaker) is State.CLOSED


async def _answer() -> str:
    return "answer"


async def test_a_timeout_inside_counts(breaker: CircuitBreaker) -> None:
    """A hung dependency shows itself by nothing else."""

    async def hang() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(hang)
    assert state_of(breaker) is State.OPEN


# Half-open


async def test_two_hundred_callers_at_the_same_moment_make_one_probe(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One that lets everybody through when half-open is a stampede."""
    half_open(breaker, clock)
    inside = peak = 0
    go = asyncio.Event()

    async def probe() -> None:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await go.wait()
        inside -= 1

    calls = [asyncio.create_task(breaker.call(probe)) for _ in range(200)]
    await asyncio.sleep(0)
    go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert peak == 1
    assert sum(isinstance(outcome, CircuitOpen) for outcome in outcomes) == 199
    assert state_of(breaker) is State.CLOSED


def test_so_many_permits_at_once_and_so_many_successes_close_it(clock: FakeClock) -> None:
    """A permit that comes back lets the next one go."""
    breaker = guard(clock, Rules(permits=2, successes=3, jitter=0.0))
    half_open(breaker, clock)
    first, second = breaker.allow(), breaker.allow()
    assert refuses(breaker)
    first.success()
    third = breaker.allow()
    assert refuses(breaker)
    second.success()
    assert state_of(breaker) is State.HALF_OPEN
    third.success()
    assert state_of(breaker) is State.CLOSED


def test_a_permit_counts_once(clock: FakeClock) -> None:
    """Told twice by mistake, it is one success."""
    breaker = guard(clock, Rules(permits=2, successes=2, jitter=0.0))
    half_open(breaker, clock)
    permit = breaker.allow()
    permit.success()
    permit.success()
    assert state_of(breaker) is State.HALF_OPEN


def test_one_failed_probe_opens_it_again_and_for_longer(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Twice as long each time, up to the cap; a closing starts over."""
    half_open(breaker, clock)
    seconds = []
    for _ in range(6):
        fail(breaker)
        seconds.append(breaker.open_for)
        clock.advance(breaker.open_for)
    assert seconds == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    breaker.allow().success()
    fail(breaker, 3)
    assert breaker.open_for == 5.0


def test_jitter_only_shortens() -> None:
    """By the share the rules say."""
    rules = Rules(open_seconds=8.0, open_cap=60.0, jitter=0.25)
    assert rules.opening(1, lambda low, _high: low) == 8.0
    assert rules.opening(1, lambda _low, high: high) == 6.0
    assert rules.opening(5000, lambda _low, high: high) == 45.0


def test_a_failed_probe_is_enough_whatever_the_others_say(clock: FakeClock) -> None:
    """Their success belongs to a time before it opened again."""
    breaker = guard(clock, Rules(permits=3, jitter=0.0))
    half_open(breaker, clock)
    first, second, third = breaker.allow(), breaker.allow(), breaker.allow()
    second.failure(ConnectionError())
    assert state_of(breaker) is State.OPEN
    first.success()
    third.failure(ConnectionError())
    assert (breaker.state, breaker.openings) == (State.OPEN, 2)


def test_the_end_of_a_call_from_before_the_opening_says_nothing(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Neither that all is well nor that all is lost; nor does it count in the next closed time."""
    stragglers = [breaker.allow() for _ in range(6)]
    half_open(breaker, clock)
    probe = breaker.allow()
    stragglers[0].success()
    stragglers[1].failure(ConnectionError())
    assert state_of(breaker) is State.HALF_OPEN
    assert refuses(breaker)  # none of them has given the probe's permit back
    probe.success()
    for straggler in stragglers[2:]:
        straggler.failure(ConnectionError())
    assert (breaker.state, breaker.snapshot().failures) == (State.CLOSED, 0)


def test_a_permit_that_never_comes_back_is_given_to_another(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Or a lost caller would keep it half-open for ever."""
    half_open(breaker, clock)
    lost = breaker.allow()
    clock.advance(THREE.permit_seconds - 0.1)
    assert refuses(breaker)
    clock.advance(0.1)
    other = breaker.allow()
    assert refuses(breaker)
    lost.give_back()  # its place has gone to the other
    assert refuses(breaker)
    other.success()
    assert state_of(breaker) is State.CLOSED


def test_a_slow_probe_is_a_failed_one(clock: FakeClock) -> None:
    """Where slowness opens it, it must not close it."""
    breaker = guard(clock, Rules(slow_rate=0.5, slow_seconds=2.0, jitter=0.0))
    half_open(breaker, clock)
    probe = breaker.allow()
    clock.advance(2.0)
    probe.success()
    assert (breaker.state, breaker.reason) == (State.OPEN, "slow probe")


# By hand


def test_forced_open_refuses_until_it_is_reset(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """No time that passes changes it."""
    in_flight = breaker.allow()
    breaker.force_open()
    clock.advance(1e6)
    in_flight.success()
    breaker.closed_elsewhere()
    breaker.opened_elsewhere(1.0, 1)
    assert refuses(breaker)
    assert state_of(breaker) is State.FORCED_OPEN
    breaker.reset()
    assert not refuses(breaker)


def test_disabled_lets_everything_through_until_it_is_reset(breaker: CircuitBreaker) -> None:
    """And what failed meanwhile does not count afterwards."""
    fail(breaker, 2)
    breaker.disable()
    fail(breaker, 100)
    breaker.opened_elsewhere(60.0, 1)
    assert state_of(breaker) is State.DISABLED
    breaker.reset()
    fail(breaker, 2)
    assert state_of(breaker) is State.CLOSED


# Its use


async def test_with_async_with_and_call_are_the_same(clock: FakeClock) -> None:
    """Each counts a failure, hands on what was raised, and frees the permit after a success."""
    breaker = guard(clock, Rules(failures=4, jitter=0.0))

    async def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError), breaker.allow():
        await fails()
    with pytest.raises(ConnectionError):
        async with breaker.allow():
            await fails()
    with pytest.raises(ConnectionError):
        await breaker.call(fails)
    assert await breaker.call(_answer) == "answer"
    async with breaker.allow():
        pass
    assert breaker.snapshot().failures == 3
    with suppress(ConnectionError), breaker.allow():
        await fails()
    assert state_of(breaker) is State.OPEN


@pytest.mark.parametrize(
    "values",
    [
        {"failures": 0},
        {"failures": None},
        {"permits": 0},
        {"failure_rate": 0.0},
        {"slow_rate": 1.1},
        {"window": 0.0},
        {"jitter": 1.0},
        {"open_seconds": 9.0, "open_cap": 8.0},
    ],
)
def test_rules_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    """When they are made, not when they are needed."""
    with pytest.raises(ValueError):
        Rules(**values)


def test_the_list_says_what_an_operator_asks(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """State, why, since when, how many failures, when next."""
    assert breaker in breakers()
    fail(breaker, 3)
    opened = datetime.fromtimestamp(clock.time(), UTC)
    clock.advance(2.0)
    assert refuses(breaker)
    told = breaker.snapshot()
    assert (told.name, told.state, told.reason) == ("stripe", State.OPEN, "failures")
    assert (told.failures, told.openings, told.refused) == (3, 1, 1)
    assert abs(told.since - opened) < timedelta(milliseconds=1)
    assert told.next_try is not None
    assert abs(told.next_try - opened - timedelta(seconds=5)) < timedelta(milliseconds=1)
    clock.advance(3.0)
    breaker.allow().success()
    told = breaker.snapshot()
    assert (told.state, told.failures, told.openings, told.next_try) == (State.CLOSED, 0, 0, None)


def test_changes_and_refusals_are_events_of_the_span_they_happen_in(
    breaker: CircuitBreaker, spans: InMemorySpanExporter
) -> None:
    """Whoever reads the trace of a 503 sees which breaker gave it."""
    with span("request"):
        fail(breaker, 3)
        assert refuses(breaker)
    (request,) = spans.get_finished_spans()
    changed, refused = request.events
    assert changed.name == "circuit breaker"
    assert dict(changed.attributes or {}) == {
        "breaker": "stripe", "from": "closed", "to": "open", "reason": "failures"
    }  # fmt: skip
    assert refused.name == "circuit open"
    assert dict(refused.attributes or {}) == {"breaker": "stripe", "state": "open"}


# Any order of anything

MODEL_FAILURES = 3
ENDS: dict[str, Callable[[Permit], None]] = {
    "success": Permit.success,
    "failure": lambda permit: permit.failure(ConnectionError()),
    "answer": lambda permit: permit.failure(NotFound()),
    "cancelled": lambda permit: permit.failure(asyncio.CancelledError()),
    "given back": Permit.give_back,
}


class AnyOrder(RuleBasedStateMachine):
    """Calls that begin and end in any order, time, and an operator, against what must always hold.

    The model counts for itself: failures of this closed time, and who holds a permit of this half-open one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.limits = Rules(
            failures=MODEL_FAILURES,
            window=10.0,
            open_seconds=4.0,
            open_cap=9.0,
            permits=2,
            successes=2,
            permit_seconds=6.0,
        )
        self.breaker = CircuitBreaker("any", self.limits, now=self.clock)
        self.calls: list[tuple[Permit, State, int]] = []
        self.holding: dict[int, float] = {}
        self.failures: list[float] = []
        self.before = State.CLOSED
        self.era = 0

    def look(self) -> None:
        """Begins a new era when the state has changed."""
        if self.breaker.state is not self.before:
            self.before = self.breaker.state
            self.era += 1
            self.holding.clear()
            self.failures.clear()

    @rule()
    def begin(self) -> None:
        state = self.breaker.state
        due = self.breaker.open_for == 0.0
        try:
            permit = self.breaker.allow()
        except CircuitOpen:
            assert state not in {State.CLOSED, State.DISABLED}
            assert not (state is State.OPEN and due)
            return
        assert state is not State.FORCED_OPEN
        assert state is not State.OPEN or due
        self.look()
        self.calls.append((permit, self.breaker.state, self.era))
        if self.breaker.state is State.HALF_OPEN:
            self.holding = {key: end for key, end in self.holding.items() if end > self.clock()}
            self.holding[id(permit)] = self.clock() + self.limits.permit_seconds
            assert len(self.holding) <= self.limits.permits

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), end=st.sampled_from(sorted(ENDS)))
    def end(self, data: st.DataObject, end: str) -> None:
        permit, begun, era = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        state, current = self.breaker.state, era == self.era
        ENDS[end](permit)
        if end == "failure" and current and begun is State.CLOSED:
            self.failures.append(self.clock())
        after = self.breaker.state
        if not current or end in {"cancelled", "given back"}:
            assert after is state
        if state is State.CLOSED:
            recent = [instant for instant in self.failures if self.clock() - instant < self.limits.window]
            assert (after is State.OPEN) is (len(recent) >= MODEL_FAILURES)
        if state is State.HALF_OPEN and end == "failure" and current:
            assert after is State.OPEN
        self.holding.pop(id(permit), None)
        self.look()

    @rule(seconds=st.floats(0.0, 7.0))
    def wait(self, seconds: float) -> None:
        state = self.breaker.state
        self.clock.advance(seconds)
        assert self.breaker.state is state

    @rule(seconds=st.floats(0.1, 20.0))
    def hear_of_an_opening(self, seconds: float) -> None:
        held = self.breaker.state in {State.FORCED_OPEN, State.DISABLED}
        self.breaker.opened_elsewhere(seconds, 1)
        assert self.breaker.state is (self.before if held else State.OPEN)
        self.look()

    @rule()
    def hear_of_a_closing(self) -> None:
        state = self.breaker.state
        self.breaker.closed_elsewhere()
        assert self.breaker.state is state

    @rule(hold=st.sampled_from(["force_open", "disable", "reset"]))
    def operate(self, hold: str) -> None:
        getattr(self.breaker, hold)()
        if hold == "reset" and self.before is State.CLOSED:
            self.era += 1
            self.failures.clear()
        self.look()

    @invariant()
    def open_times_are_bounded(self) -> None:
        # What was heard of may be longer by the jitter, so that whoever told it tries first.
        assert self.breaker.open_for <= self.limits.open_cap * (1 + self.limits.jitter)


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_in_any_order = AnyOrder.TestCase


# Between processes


@asynccontextmanager
async def sharing(*shares: tuple[Cache, Iterable[CircuitBreaker]]) -> AsyncIterator[None]:
    """Each pair is a process: its way to Redis and its breakers."""
    tasks = [asyncio.create_task(share(cache, each, every=0.02)) for cache, each in shares]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def becomes(breaker: CircuitBreaker, state: State) -> None:
    async def there() -> bool:
        return breaker.state is state

    await eventually(there)


def process(rules: Rules = Rules(open_seconds=30.0)) -> CircuitBreaker:  # noqa: B008
    return CircuitBreaker("stripe", rules)


async def test_one_process_s_opening_is_the_others(cache: Cache) -> None:
    """They did not have to meet three failures of their own, and the first to try again is who told."""
    here, there, other = process(), process(), CircuitBreaker("mail")
    async with sharing((cache, [here]), (cache, [there, other])):
        fail(here, 3)
        await becomes(there, State.OPEN)
        assert refuses(there)
        assert there.reason == "elsewhere"
        assert there.open_for >= here.open_for - 0.5
        assert other.state is State.CLOSED
        assert 0 < await cache.client.pttl("breaker:stripe") <= 30_000


async def test_a_process_that_starts_hears_what_is_open(cache: Cache) -> None:
    """Also when the one that opened it is gone."""
    here, later = process(), process()
    async with sharing((cache, [here])):
        fail(here, 3)
        await eventually(lambda: _exists(cache, "breaker:stripe"))
    async with sharing((cache, [later])):
        await becomes(later, State.OPEN)


async def _exists(cache: Cache, key: str) -> bool:
    return bool(await cache.client.exists(key))


async def _expires(cache: Cache, key: str) -> bool:
    return await cache.client.ttl(key) > 0


async def test_when_one_reaches_it_again_the_others_try(cache: Cache) -> None:
    """With a probe of their own: what one network reaches, another may not."""
    here, there = process(Rules(open_seconds=0.2, open_cap=0.2)), process()
    async with sharing((cache, [here]), (cache, [there])):
        fail(there, 3)
        await becomes(here, State.OPEN)

        async def tried() -> bool:
            with suppress(CircuitOpen):
                here.allow().success()
            return here.state is State.CLOSED

        await eventually(tried)

        async def due() -> bool:
            return there.state is State.OPEN and there.open_for == 0.0

        await eventually(due)
        there.allow().success()
        assert there.state is State.CLOSED


async def test_what_an_operator_holds_is_held_everywhere_until_reset(cache: Cache) -> None:
    """Also by a process that starts later, and for longer than any opening."""
    here, there, later = process(), process(), process()
    async with sharing((cache, [here]), (cache, [there])):
        here.force_open()
        await becomes(there, State.FORCED_OPEN)
        assert await cache.client.ttl("breaker-hold:stripe") == -1
        async with sharing((cache, [later])):
            await becomes(later, State.FORCED_OPEN)
            later.disable()
            await becomes(here, State.DISABLED)
            await becomes(there, State.DISABLED)
            there.reset()
            await becomes(here, State.CLOSED)
            await becomes(later, State.CLOSED)


async def test_an_old_reset_does_not_undo_what_a_new_process_has_seen(cache: Cache) -> None:
    """The record of a reset stays for a day."""
    here = process()
    async with sharing((cache, [here])):
        here.force_open()
        await eventually(lambda: _exists(cache, "breaker-hold:stripe"))
        here.reset()
        await eventually(lambda: _expires(cache, "breaker-hold:stripe"))
    new, witness = process(), CircuitBreaker("witness")
    fail(new, 3)
    async with sharing((cache, [new, witness]), (cache, [here])):
        await becomes(here, State.OPEN)  # so `new` has told, and then listened
        witness.force_open()
        await eventually(lambda: _exists(cache, "breaker-hold:witness"))
        assert new.state is State.OPEN


async def test_without_redis_each_goes_on_by_itself_and_tells_afterwards(distant_cache: DistantCache) -> None:
    """What holds by hand is told when Redis is back, an opening if it is still open."""
    here, there = process(), process()
    async with sharing((distant_cache.cache, [here]), (distant_cache.near, [there])):
        distant_cache.proxy.refuse()
        fail(here, 3)
        assert refuses(here)

        async def away() -> bool:
            return distant_cache.cache.breaker.state is State.OPEN

        await eventually(away)
        assert there.state is State.CLOSED
        distant_cache.proxy.forward()
        await becomes(there, State.OPEN)


async def test_what_somebody_else_wrote_there_is_ignored(cache: Cache) -> None:
    """And does not end the sharing."""
    here, there = process(), process()
    await cache.client.set("breaker:stripe", b"\xff not ours", px=60_000)
    await cache.client.set("breaker-hold:stripe", orjson.dumps([1]))
    async with sharing((cache, [here]), (cache, [there])):
        fail(here, 3)
        await becomes(there, State.OPEN)


async def test_a_breaker_made_later_is_shared_too_and_a_local_one_never(servers: "Servers", cache: Cache) -> None:
    """Redis' own breaker above all: opening it must not be told to those who still reach Redis."""
    mine = Cache(servers.endpoints.redis)
    task = asyncio.create_task(share(mine, every=0.02))
    try:
        for name in ("made later", "made later still"):
            mine.breaker.force_open()
            mine.breaker.reset()
            made_later = CircuitBreaker(name)
            made_later.force_open()
            await eventually(partial(_exists, cache, f"breaker-hold:{name}"))
        assert not await _exists(cache, "breaker-hold:redis")
        with pytest.raises(ValueError, match="local"):
            await share(mine, [mine.breaker])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await mine.close()


async def test_an_opening_can_be_reset_everywhere(cache: Cache) -> None:
    """Also one that nobody had made by hand."""
    here, there = process(), process()
    async with sharing((cache, [here]), (cache, [there])):
        fail(here, 3)
        await becomes(there, State.OPEN)
        here.reset()
        await becomes(there, State.CLOSED)
        assert not await _exists(cache, "breaker:stripe")


async def test_an_open_breaker_costs_no_round_trip(distant_cache: DistantCache) -> None:
    """The way of a call does not lead through Redis."""
    here = process()
    async with sharing((distant_cache.cache, [here])):
        fail(here, 3)
        await eventually(lambda: _exists(distant_cache.near, "breaker:stripe"))
    before = distant_cache.proxy.count(b"breaker:stripe")
    assert all(refuses(here) for _ in range(1000))
    assert distant_cache.proxy.count(b"breaker:stripe") == before
