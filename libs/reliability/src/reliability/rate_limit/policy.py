"""What is allowed: how much, in which time, counted how, and what holds when nobody can count."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["CHECKOUT", "LOGIN", "REFRESH", "RESET", "SEARCH", "SIGNUP", "Algorithm", "Policy", "WhenDown"]

MICROSECONDS: Final = 1_000_000
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_QUOTA: Final = 1_000_000_000
_MAX_WINDOW: Final = 31 * 24 * 3600
# GCRA's interval is a whole number of microseconds, rounded up: at 10,000 a second that costs one percent at most.
_MAX_RATE: Final = 10_000
# Instants are doubles in Lua, exact to 2**53 microseconds: the year 2255. A burst that takes a year back stays below.
_MAX_CAPACITY: Final = 366 * 24 * 3600 * MICROSECONDS


class Algorithm(Enum):
    """How requests are counted."""

    FIXED_WINDOW = "fixed_window"
    """`quota` from the first request on, until `window` has passed. Refused requests count too."""

    GCRA = "gcra"
    """One every `window / quota` seconds, `burst` at once. Refused requests cost nothing."""


class WhenDown(Enum):
    """What a limit does while Redis does not answer."""

    SHARE = "share"
    """This process counts for itself and allows its share of the quota."""

    DENY = "deny"
    """Nothing passes: for what must not happen uncounted."""

    ALLOW = "allow"
    """Everything passes: for limits that keep order and hold off nobody."""


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `quota` units per `window` seconds, for every subject.

    `name` is in the key and in the RateLimit fields: 1 to 64 of `A-Za-z0-9._-`. A quota of 0 refuses everything.
    `burst`, for GCRA alone, is how many units may be spent at once; it may be larger than the quota and is equal to it
    when None. With `shadow` the limit is counted and what it would refuse is logged and counted, but it passes.
    Raises `ValueError` for values out of bounds: windows go from a second to 31 days.
    """

    name: str
    quota: int
    window: int
    algorithm: Algorithm = Algorithm.FIXED_WINDOW
    burst: int | None = None
    when_down: WhenDown = WhenDown.SHARE
    shadow: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} is not 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-'")
        _within(self.name, "quota", self.quota, 0, _MAX_QUOTA)
        _within(self.name, "window", self.window, 1, _MAX_WINDOW)
        if self.algorithm is Algorithm.GCRA:
            self._check_gcra()
        elif self.burst is not None:
            raise ValueError(f"{self.name}: a fixed window has no burst; its quota may be spent at once")

    def _check_gcra(self) -> None:
        if self.burst is not None:
            _within(self.name, "burst", self.burst, 1, _MAX_QUOTA)
        if self.quota > self.window * _MAX_RATE:
            raise ValueError(f"{self.name}: GCRA counts {_MAX_RATE} units a second at most")
        if self.interval * self.at_once > _MAX_CAPACITY:
            raise ValueError(f"{self.name}: the burst takes more than a year to come back")

    @property
    def at_once(self) -> int:
        """Units that may be spent at once by somebody who has spent none lately."""
        return self.quota if self.burst is None or not self.quota else self.burst

    @property
    def interval(self) -> int:
        """Microseconds until one unit comes back under GCRA; rounded up, so that never more than the quota does."""
        return -(-self.window * MICROSECONDS // self.quota) if self.quota else 0


def _within(name: str, what: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: the {what} is {value!r}, not a whole number from {low} to {high}")


LOGIN: Final = Policy("login", 5, 900)
"""5 in 15 minutes: of one account, and of one address."""
SIGNUP: Final = Policy("signup", 3, 900)
"""3 in 15 minutes."""
RESET: Final = Policy("reset", 3, 900)
"""3 in 15 minutes: mails somebody else may be sent."""
REFRESH: Final = Policy("refresh", 60, 900)
"""60 in 15 minutes: more than any number of open tabs needs."""
CHECKOUT: Final = Policy("checkout", 20, 60, Algorithm.GCRA, burst=10)
"""10 at once, then one every 3 seconds."""
SEARCH: Final = Policy("search", 120, 60, Algorithm.GCRA, burst=40)
"""40 at once, then two a second."""
