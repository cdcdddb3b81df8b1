"""Attempts within one deadline, by one layer of all.

Three layers that try three times each make 27 calls of one. So the number of attempts made before travels along,
over gRPC as `grpc-previous-rpc-attempts` (gRFC A6), and whoever is already part of a second attempt makes one only.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeVar

from opentelemetry import metrics, trace

from reliability import deadline
from reliability.context import Scope
from reliability.errors import DeadlineExceeded, Problem
from reliability.retry.backoff import full_jitter
from reliability.retry.budget import RetryBudget
from reliability.retry.classify import PERMANENT, SAFE, Again, Verdict, classify

__all__ = ["PREVIOUS_ATTEMPTS", "parse_attempts", "previous_attempts", "previous_attempts_scope", "retry"]

T = TypeVar("T")

PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""The header, and gRPC metadata, that carries how many attempts came before (gRFC A6)."""
LEAST: Final = 0.05
_DIGITS: Final = 4

_meter = metrics.get_meter("reliability")
_retries = _meter.create_counter("reliability.retry.retries", description="Attempts after the first, by step and error")
_given_up = _meter.create_counter("reliability.retry.given_up", description="Failures not tried again, by step and why")

_previous: ContextVar[int] = ContextVar("previous_attempts", default=0)


def previous_attempts() -> int:
    """How many attempts at what is running now were made before this one, here or by who called us."""
    return _previous.get()


def previous_attempts_scope(count: int) -> Scope[int]:
    """Runs the block as what comes after `count` attempts of a caller."""
    return Scope(_previous, count)


def parse_attempts(value: str | None) -> int:
    """A count of attempts as it came over the network; 0 for none and for nonsense."""
    return int(value) if value and value.isascii() and value.isdigit() and len(value) <= _DIGITS else 0


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    retryable: Callable[[Exception], Verdict | bool] = classify,
    idempotent: bool = False,
    step: str = "",
    attempts: int = 3,
    base: float = 0.05,
    cap: float = 2.0,
    seconds: float = deadline.EXTERNAL_CAP,
    least: float = LEAST,
    budget: RetryBudget | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> T:
    """`call()` until it succeeds, `attempts` times at most; the last error is raised as it was.

    `retryable` is a classifier, or a predicate that vouches for trying again. What a classifier does not know to be
    undone is tried again only when `idempotent`. What the other side asks for (`Retry-After`, `RetryInfo`, pushback)
    is waited for, and full jitter of `base` and `cap` seconds on top, so that they do not all come back at once.

    All attempts share `seconds`, which the call finds as its deadline. When none are left, the first raises
    `DeadlineExceeded`; no further one starts that would not have `least` seconds. With a `step` each attempt ends at
    the deadline, whether or not the call minds it, and names the step; without, the call's own steps have to.

    A spent `budget` ends the retries of everybody who shares it. So does an attempt number above us: then another
    layer is trying again, and this one makes one attempt. Raises `ValueError` for fewer than one.
    """
    if attempts < 1:
        raise ValueError("attempts must be at least 1")
    before = _previous.get()
    failures = _Failures(
        step,
        attempts=attempts,
        allowed=1 if before else attempts,
        # Whoever never tries again has no say in whether others do.
        budget=budget if attempts > 1 else None,
    )
    with deadline.deadline_scope(seconds):  # of all attempts together: one for each would add up
        if deadline.remaining(seconds) <= 0:
            raise DeadlineExceeded(step or "retry")
        while True:
            try:
                answer = await _attempt(call, before + failures.count, step, seconds)
            except Exception as error:
                verdict = _judge(error, retryable, idempotent=idempotent)
                wait = verdict.after + full_jitter(failures.count + 1, base=base, cap=cap, uniform=uniform)
                if not failures.admit(error, verdict, wait, deadline.remaining(seconds) - least):
                    raise
                await sleep(wait)
                if deadline.remaining(seconds) < least:  # it slept longer than it was told to
                    failures.give_up(error, "deadline")
                    raise
            else:
                failures.over()
                return answer


async def _attempt(call: Callable[[], Awaitable[T]], earlier: int, step: str, seconds: float) -> T:
    token = _previous.set(earlier)
    try:
        if not step:
            return await call()
        async with deadline.limit(seconds, step):
            return await call()
    finally:
        _previous.reset(token)


def _judge(error: Exception, retryable: Callable[[Exception], Verdict | bool], *, idempotent: bool) -> Verdict:
    """What to do, with the question of idempotence settled: `NEVER` or `ALWAYS`."""
    verdict = retryable(error)
    if isinstance(verdict, bool):
        asked = error.retry_after if isinstance(error, Problem) and error.retry_after else 0.0
        return SAFE.waiting(asked) if verdict else PERMANENT
    if verdict.again is Again.IF_IDEMPOTENT:
        return SAFE.waiting(verdict.after) if idempotent else PERMANENT
    return verdict


class _Failures:
    """Those of one `retry`, and whether there may be another attempt after them."""

    __slots__ = ("_allowed", "_attempts", "_budget", "_step", "count")

    def __init__(self, step: str, *, attempts: int, allowed: int, budget: RetryBudget | None) -> None:
        self._step, self._attempts, self._allowed, self._budget = step, attempts, allowed, budget
        self.count = 0

    def admit(self, error: Exception, verdict: Verdict, wait: float, left: float) -> bool:
        """Counts a failure; true when `wait` seconds and an attempt fit into what is `left` of everything."""
        self.count += 1
        final = verdict.again is Again.NEVER
        if self._budget is not None and (not final or verdict.pushed_back):
            self._budget.failed()
        reason = "permanent" if final else self._spent(wait, left)
        if reason:
            self.give_up(error, reason)
            return False
        kind = type(error).__name__
        _retries.add(1, {"step": self._step, "error.type": kind})
        trace.get_current_span().add_event("retry", {"attempt": self.count, "wait": round(wait, 3), "error.type": kind})
        return True

    def _spent(self, wait: float, left: float) -> str:
        if self.count >= self._allowed:
            return "attempts" if self._allowed == self._attempts else "another layer retries"
        if self._budget is not None and not self._budget.allows:
            return "budget"
        return "deadline" if wait > left else ""

    def give_up(self, error: Exception, reason: str) -> None:
        """Notes why there is no further attempt. What was tried once and failed for good is no news."""
        if self._attempts == 1 or (reason == "permanent" and self.count == 1):
            return
        kind = type(error).__name__
        _given_up.add(1, {"step": self._step, "reason": reason, "error.type": kind})
        trace.get_current_span().add_event("gave up", {"attempt": self.count, "reason": reason, "error.type": kind})

    def over(self) -> None:
        """It has succeeded."""
        if self._budget is not None:
            self._budget.succeeded()
