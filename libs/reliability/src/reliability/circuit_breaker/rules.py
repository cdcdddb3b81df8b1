"""When a breaker opens, for how long, and what closes it again; which results count."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from reliability.bulkhead import Overloaded
from reliability.errors import ControlFlow, Problem, Unavailable

__all__ = ["CircuitOpen", "Judge", "Outcome", "Rules", "Window", "judge"]

_BUCKETS: Final = 10


class CircuitOpen(Unavailable):
    """Refused without asking a dependency that has just failed; `retry_after` are the seconds until its next try."""

    code, title = "circuit_open", "A service we need has failed and is given a rest"


class Outcome(Enum):
    """What the end of a call says about the dependency."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NEUTRAL = "neutral"
    """Nothing: the dependency was never asked, or nobody waited for its answer."""


Judge = Callable[[Exception], Outcome]
"""Says what a failure of a call tells about the dependency."""


def judge(error: Exception) -> Outcome:
    """Everything is a failure but an answer (a `Problem` below 500, a `ControlFlow`) and our own refusals to ask.

    A `DeadlineExceeded` counts: a hung dependency gives no other sign. Where callers come with very little time
    left, do not ask at all, or judge by a rate. Cancellation never gets here.
    """
    match error:
        case CircuitOpen() | Overloaded():
            return Outcome.NEUTRAL
        case ControlFlow():
            return Outcome.SUCCEEDED
        case Problem():
            return Outcome.FAILED if error.status >= 500 else Outcome.SUCCEEDED
        case _:
            return Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one dependency; by default it opens at 3 failures in 60 seconds. Whichever rule is broken first opens it.

    Times are seconds, rates are shares from 0 to 1. Raises `ValueError` for rules that make no sense.
    """

    failures: int | None = 3
    """So many within the window open it, however many calls succeed; None to go by rates alone."""
    window: float = 60.0
    failure_rate: float | None = None
    """A failure that makes the share of failed calls this or more opens it, from `minimum_calls` in the window on."""
    slow_rate: float | None = None
    """The same for calls that took `slow_seconds` or longer, whether they failed or not."""
    slow_seconds: float = 2.0
    minimum_calls: int = 20
    open_seconds: float = 5.0
    """How long the first opening lasts. Each one that follows without a closing between lasts twice as long."""
    open_cap: float = 60.0
    jitter: float = 0.25
    """Up to this share is taken off each opening, so that the processes do not all come back at once."""
    permits: int = 1
    """Calls at once while half-open."""
    successes: int = 1
    """So many of them close it; the first that fails opens it again."""
    permit_seconds: float = 30.0
    """After which the place of a call that did not come back is given to another."""

    def __post_init__(self) -> None:
        counts = [self.minimum_calls, self.permits, self.successes]
        if self.failures is not None:
            counts.append(self.failures)
        if min(counts) < 1:
            raise ValueError("failures, minimum_calls, permits and successes must be at least 1")
        rates = [rate for rate in (self.failure_rate, self.slow_rate) if rate is not None]
        if self.failures is None and not rates:
            raise ValueError("a breaker that nothing opens is none: give failures, failure_rate or slow_rate")
        if not all(0 < rate <= 1 for rate in rates) or not 0 <= self.jitter < 1:
            raise ValueError("a rate is above 0 and at most 1, jitter from 0 to below 1")
        if min(self.window, self.slow_seconds, self.open_seconds, self.permit_seconds) <= 0:
            raise ValueError("times must be above zero")
        if self.open_cap < self.open_seconds:
            raise ValueError("open_cap must not be below open_seconds")

    @property
    def rated(self) -> bool:
        """Whether successes have to be counted as well."""
        return self.failure_rate is not None or self.slow_rate is not None

    def opening(self, number: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds opening `number` (from 1, counted since it was last closed) lasts."""
        longest = min(self.open_cap, self.open_seconds * 2.0 ** min(number - 1, 62))
        return longest * (1.0 - uniform(0.0, self.jitter))


class Window:
    """What happened in the last `rules.window` seconds, in bounded memory.

    Failures are kept by their instants, as many as are needed to open: that is exact. Rates come from ten buckets,
    so that theirs is up to a tenth shorter than it says. `now` is a monotonic clock in seconds.
    """

    __slots__ = ("_bucket", "_buckets", "_end", "_instants", "_rules", "_width")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._width = rules.window / _BUCKETS
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._instants: deque[float] = deque(maxlen=self._rules.failures or 1)
        self._bucket = [0, 0, 0]  # calls, failed, slow
        self._buckets = deque([self._bucket], maxlen=_BUCKETS)
        self._end = 0.0

    def succeeded(self, now: float) -> None:
        """Counts a call that went well, which never opens a breaker."""
        if now >= self._end:
            self._turn(now)
        self._bucket[0] += 1

    def add(self, now: float, *, failed: bool, slow: bool) -> str:
        """Counts a call that failed or was slow; the rule that is broken by it, or nothing."""
        self.succeeded(now)
        self._bucket[1] += failed
        self._bucket[2] += slow
        if failed:
            self._instants.append(now)
        return self._broken(now, failed=failed)

    def failures(self, now: float) -> int:
        """Failures in the window; without rates no more are known than it takes to open."""
        if self._rules.rated:
            return self._totals(now)[1]
        return sum(now - instant < self._rules.window for instant in self._instants)

    def _broken(self, now: float, *, failed: bool) -> str:
        rules, instants = self._rules, self._instants
        if failed and len(instants) == rules.failures and now - instants[0] < rules.window:
            return "failures"
        if rules.rated:
            calls, failures, slow = self._totals(now)
            if calls < rules.minimum_calls:
                return ""
            if rules.failure_rate is not None and failures >= rules.failure_rate * calls:
                return "failure rate"
            if rules.slow_rate is not None and slow >= rules.slow_rate * calls:
                return "slow calls"
        return ""

    def _totals(self, now: float) -> tuple[int, int, int]:
        if now >= self._end:
            self._turn(now)
        calls, failed, slow = map(sum, zip(*self._buckets, strict=True))
        return calls, failed, slow

    def _turn(self, now: float) -> None:
        """Begins a new bucket, and as many empty ones as were slept through; the oldest fall out."""
        passed = int((now - self._end) // self._width) + 1
        self._buckets.extend([0, 0, 0] for _ in range(min(passed, _BUCKETS)))
        self._bucket = self._buckets[-1]
        self._end += passed * self._width
