"""Any order of anything, against what must always hold."""

import asyncio
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Permit, Rules, State
from reliability.errors import NotFound
from reliability.testing import FakeClock

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
