"""How long to wait: full jitter, and what the other side asked for."""

import random
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["full_jitter", "parse_retry_after"]

_DIGITS = 9  # thirty years of seconds; more is nonsense


def full_jitter(
    attempt: int, *, base: float, cap: float, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1): `uniform(0, min(cap, base * 2**(n-1)))`.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0.0, min(cap, base * 2.0 ** min(attempt - 1, 62)))


def parse_retry_after(value: str | None, *, date: str | None = None, now: Callable[[], float] = time.time) -> float:
    """Seconds a `Retry-After` header asks for, 0 when there is none or it says nothing (RFC 9110, section 10.2.3).

    An HTTP-date is compared with the answer's own `Date`, where it has one: then two clocks need not agree.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_DIGITS])
    until = _instant(text)
    if until is None:
        return 0.0
    said_at = _instant(date or "")
    return max(0.0, until - (now() if said_at is None else said_at))


def _instant(text: str) -> float | None:
    """An HTTP-date in any of its three forms (RFC 9110, section 5.6.7), as seconds since the epoch."""
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    # The asctime form names no zone; HTTP-dates are always UTC.
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
