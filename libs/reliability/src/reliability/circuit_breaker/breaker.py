"""The breaker itself. It never waits: every decision is a plain function, atomic in its event loop."""

import random
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar, assert_never

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from reliability.circuit_breaker.model import RESET, Permit, Snapshot, State
from reliability.circuit_breaker.rules import CircuitOpen, Judge, Outcome, Rules, Window, judge
from reliability.logging import get_logger

__all__ = ["CircuitBreaker", "breakers", "watching"]

T = TypeVar("T")

_SETTLED: Final = -1


class CircuitBreaker:
    """Guards the calls to one dependency. Belongs to one event loop.

    >>> breaker = CircuitBreaker("stripe")
    >>> with breaker.allow():
    ...     pass  # await the call here, with its timeout inside: seen from here, an outer one is a cancellation

    A call that is cancelled counts as nothing. So does the end of one that began before the breaker last changed its
    state. `local` keeps it out of sharing. `now` is a monotonic clock in seconds, `wall` the one people read.
    """

    def __init__(
        self,
        name: str,
        rules: Rules | None = None,
        *,
        judge: Judge = judge,
        local: bool = False,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.name = name
        self.rules = rules = rules or Rules()
        self.local = local
        self._judge, self._now, self._wall, self._uniform = judge, now, wall, uniform
        self._window = Window(rules)
        self._timed = rules.slow_rate is not None
        self._generation = 0
        self._openings = 0
        self._until = 0.0
        self._successes = 0
        self._refused = 0
        self._met = 0
        self._holders: dict[Permit, float] = {}
        self._state, self._reason, self._since = State.CLOSED, "new", now()
        self._everybody = self._shared_permit()
        _all.add(self)

    @property
    def state(self) -> State:
        """An open breaker whose time is up stays open until somebody calls."""
        return self._state

    @property
    def reason(self) -> str:
        """Of the last change."""
        return self._reason

    @property
    def openings(self) -> int:
        """How often it opened since it was last closed."""
        return self._openings

    @property
    def open_for(self) -> float:
        """Seconds until an open breaker tries again; 0 in any other state."""
        return max(0.0, self._until - self._now()) if self._state is State.OPEN else 0.0

    def allow(self) -> Permit:
        """A permit for one call. Raises `CircuitOpen` (503, with the seconds to stay away)."""
        return self._everybody or self._admit()

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """`await function()` under a permit. Raises `CircuitOpen`, and whatever the function does."""
        with self._everybody or self._admit():
            return await function()

    def force_open(self) -> None:
        """Refuses every call until `reset()`."""
        self._hold(State.FORCED_OPEN)

    def disable(self) -> None:
        """Lets every call through and counts none until `reset()`."""
        self._hold(State.DISABLED)

    def reset(self) -> None:
        """Closed, as if nothing had happened."""
        self._close(RESET)

    def opened_elsewhere(self, seconds: float, openings: int) -> None:
        """Another process has opened its breaker for the same dependency: this one opens too, for a little longer.

        That other process then is the first to try again, and tells. What is held by hand stays as it is.
        """
        if self._state in {State.FORCED_OPEN, State.DISABLED}:
            return
        self._openings = max(self._openings, openings)
        until = self._now() + min(seconds, self.rules.open_cap) * (1.0 + self._uniform(0.0, self.rules.jitter))
        if self._state is State.OPEN:
            self._until = max(self._until, until)
        else:
            self._until = until
            self._go(State.OPEN, "elsewhere")

    def closed_elsewhere(self) -> None:
        """Another process reached the dependency again: an open breaker tries with the next call."""
        if self._state is State.OPEN:
            self._until = self._now()

    def snapshot(self) -> Snapshot:
        """For people."""
        now, wall = self._now(), self._wall()
        return Snapshot(
            name=self.name,
            state=self._state,
            reason=self._reason,
            since=datetime.fromtimestamp(wall - (now - self._since), UTC),
            failures=self._window.failures(now) if self._state is State.CLOSED else self._met,
            openings=self._openings,
            next_try=datetime.fromtimestamp(wall + self.open_for, UTC) if self._state is State.OPEN else None,
            refused=self._refused,
        )

    def _shared_permit(self) -> Permit | None:
        """What lets everybody through, where that is what to do and no call need be known again."""
        if self._state is State.DISABLED:
            return Permit(self._generation, self._ignore, None)
        if self._state is State.CLOSED and not self._timed:
            return Permit(self._generation, self._failed, self._succeeded if self.rules.rated else None)
        return None

    def _admit(self) -> Permit:
        now = self._now()
        match self._state:
            case State.CLOSED | State.DISABLED:
                return Permit(self._generation, self._failed, self._succeeded, now)
            case State.OPEN:
                if now < self._until:
                    raise self._refusal(self._until - now)
                self._go(State.HALF_OPEN, "time is up")
                return self._probe(now)
            case State.HALF_OPEN:
                return self._probe(now)
            case State.FORCED_OPEN:
                raise self._refusal(self.rules.open_seconds)
            case never:
                assert_never(never)

    def _probe(self, now: float) -> Permit:
        """One of the few calls that find out whether the dependency is back."""
        holders = self._holders
        if len(holders) >= self.rules.permits:
            for lost in [permit for permit, end in holders.items() if end <= now]:
                del holders[lost]
            if len(holders) >= self.rules.permits:
                raise self._refusal(1.0)
        permit = Permit(self._generation, self._probe_failed, self._probe_succeeded, now)
        holders[permit] = now + self.rules.permit_seconds
        return permit

    # How calls end. What began before the last change of state is ignored: it met what is there no more.

    def _succeeded(self, permit: Permit) -> None:
        if permit.generation != self._generation:
            return
        now = self._now()
        if self._timed and now - permit.started >= self.rules.slow_seconds:
            self._add(now, failed=False, slow=True)
        else:
            self._window.succeeded(now)

    def _failed(self, permit: Permit, error: BaseException) -> None:
        if permit.generation != self._generation:
            return
        match self._outcome(error):
            case Outcome.SUCCEEDED:
                self._succeeded(permit)
            case Outcome.FAILED:
                now = self._now()
                slow = self._timed and now - permit.started >= self.rules.slow_seconds
                self._add(now, failed=True, slow=slow)
            case Outcome.NEUTRAL:
                pass
            case never:
                assert_never(never)

    def _ignore(self, permit: Permit, error: BaseException) -> None:
        pass

    def _probe_succeeded(self, permit: Permit) -> None:
        if not self._take_back(permit):
            return
        if self._timed and self._now() - permit.started >= self.rules.slow_seconds:
            self._open("slow probe")
            return
        self._successes += 1
        if self._successes >= self.rules.successes:
            self._close("probe succeeded")

    def _probe_failed(self, permit: Permit, error: BaseException) -> None:
        if permit.generation != self._generation:
            return
        match self._outcome(error):
            case Outcome.SUCCEEDED:
                self._probe_succeeded(permit)
            case Outcome.FAILED:
                self._open("probe failed")
            case Outcome.NEUTRAL:
                self._take_back(permit)
            case never:
                assert_never(never)

    def _take_back(self, permit: Permit) -> bool:
        """Frees the place of a probe; false when it was told before, or belongs to the past."""
        if permit.generation != self._generation:
            return False
        permit.generation = _SETTLED
        self._holders.pop(permit, None)
        return True

    def _outcome(self, error: BaseException) -> Outcome:
        if not isinstance(error, Exception):  # CancelledError above all
            return Outcome.NEUTRAL
        outcome = self._judge(error)
        if outcome is Outcome.FAILED:
            _failures.add(1, {"breaker": self.name, "error.type": type(error).__name__})
        return outcome

    def _add(self, now: float, *, failed: bool, slow: bool) -> None:
        broken = self._window.add(now, failed=failed, slow=slow)
        if broken:
            self._open(broken)

    def _open(self, reason: str) -> None:
        self._openings += 1
        self._until = self._now() + self.rules.opening(self._openings, self._uniform)
        self._go(State.OPEN, reason)

    def _close(self, reason: str) -> None:
        self._openings = 0
        self._window.clear()
        self._go(State.CLOSED, reason)

    def _hold(self, state: State) -> None:
        if self._state is not state:
            self._go(state, "by hand")
        else:
            self._tell()  # meanwhile it may have been reset elsewhere

    def _go(self, state: State, reason: str) -> None:
        before, now = self._state, self._now()
        if before is State.CLOSED:
            self._met = self._window.failures(now)
        self._state, self._reason, self._since = state, reason, now
        self._generation += 1
        self._successes = 0
        self._holders.clear()
        self._everybody = self._shared_permit()
        _transitions.add(1, {"breaker": self.name, "from": before.value, "to": state.value, "reason": reason})
        trace.get_current_span().add_event(
            "circuit breaker", {"breaker": self.name, "from": before.value, "to": state.value, "reason": reason}
        )
        log = _log.warning if state in {State.OPEN, State.FORCED_OPEN, State.DISABLED} else _log.info
        log("circuit_breaker", breaker=self.name, before=before.value, state=state.value, reason=reason)
        self._tell()

    def _tell(self) -> None:
        for watcher in tuple(_watchers):
            watcher(self)

    def _refusal(self, seconds: float) -> CircuitOpen:
        self._refused += 1
        _refusals.add(1, {"breaker": self.name, "state": self._state.value})
        trace.get_current_span().add_event("circuit open", {"breaker": self.name, "state": self._state.value})
        return CircuitOpen(f"{self.name} is not available; try again in a moment.", retry_after=seconds)


def breakers() -> list[CircuitBreaker]:
    """Every breaker of this process, by name."""
    return sorted(_all, key=lambda breaker: breaker.name)


@contextmanager
def watching(watcher: Callable[[CircuitBreaker], None]) -> Iterator[None]:
    """Calls `watcher` after each change of any breaker of this process, or a hold that is repeated, while it runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    return [
        Observation(int(breaker.state is state), {"breaker": breaker.name, "state": state.value})
        for breaker in tuple(_all)
        for state in State
    ]


_all: "weakref.WeakSet[CircuitBreaker]" = weakref.WeakSet()
_watchers: list[Callable[[CircuitBreaker], None]] = []
_log = get_logger(__name__)
_meter = metrics.get_meter("reliability")
_meter.create_observable_gauge(
    "reliability.circuit_breaker.state", [_observe], description="1 for the state a breaker is in, 0 for the others"
)
_transitions = _meter.create_counter("reliability.circuit_breaker.transitions", description="Changes, with the reason")
_failures = _meter.create_counter("reliability.circuit_breaker.failures", description="Calls that count as failed")
_refusals = _meter.create_counter("reliability.circuit_breaker.refused", description="Calls that were not made")
