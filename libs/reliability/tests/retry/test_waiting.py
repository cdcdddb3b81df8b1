"""How long is waited between two attempts."""

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from libs.reliability.tests.retry.support import Clock, Failing
from reliability.errors import Unavailable
from reliability.retry import full_jitter, parse_retry_after, retry


@given(st.integers(1, 10_000), st.floats(0.001, 10), st.floats(0.001, 1000))
def test_jitter_is_full_and_capped(attempt: int, base: float, cap: float) -> None:
    """Anything from nothing to the doubled base, never above the cap, and no overflow for the ten-thousandth."""
    assert 0 <= full_jitter(attempt, base=base, cap=cap) <= min(cap, base * 2.0 ** min(attempt - 1, 62))
    assert full_jitter(attempt, base=base, cap=cap, uniform=lambda low, _: low) == 0


def test_the_bound_of_the_jitter_doubles() -> None:
    """With the highest draw the waits are 1, 2, 4 and then the cap."""
    assert [full_jitter(n, base=1, cap=5, uniform=lambda _, high: high) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_retry_after_is_read_in_every_form() -> None:
    """Seconds, and HTTP-dates in their three forms, against the answer's own date."""
    sent = "Sun, 06 Nov 1994 08:49:30 GMT"
    assert parse_retry_after("120") == 120
    for form in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_retry_after(form, date=sent) == 7
    assert parse_retry_after(formatdate(1007, usegmt=True), now=lambda: 1000.0) == 7
    assert parse_retry_after(formatdate(900, usegmt=True), now=lambda: 1000.0) == 0


@given(st.text() | st.from_regex(r"[A-Za-z]{3}, \d+ [A-Za-z]{3} \d+ \d+:\d+:\d+ (GMT|[+-]\d+)"), st.none() | st.text())
def test_a_retry_after_that_says_nothing_asks_for_nothing(value: str, date: str | None) -> None:
    """Whatever a server writes there, the answer is a number of seconds."""
    assert parse_retry_after(value, date=date) >= 0


async def test_what_the_other_side_asks_for_is_waited_for_with_jitter_on_top(clock: Clock) -> None:
    """Nobody comes back early, and not all at the same moment."""
    call = Failing(Unavailable(retry_after=3.0), Unavailable(retry_after=0.0))
    assert await retry(call, idempotent=True, base=1, uniform=lambda _, high: high, sleep=clock.sleep) == "done"
    assert clock.slept == [4.0, 2.0]
