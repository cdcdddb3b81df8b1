"""Limits that cannot be bypassed: several of them decided in one script and one round trip.

    limiter = RateLimiter(cache)
    fields = await limiter.check([(LOGIN, client), (PER_ACCOUNT, account)])

Fixed windows count whoever asks before anybody compares, refused requests too. GCRA spreads requests evenly and
lets a burst through; it counts what is admitted. Both can be mixed in one call.
"""

from reliability.rate_limit.limiter import RateLimiter
from reliability.rate_limit.policy import (
    CHECKOUT,
    LOGIN,
    REFRESH,
    RESET,
    SEARCH,
    SIGNUP,
    Algorithm,
    Policy,
    WhenDown,
)
from reliability.rate_limit.subjects import client_key

__all__ = [
    "CHECKOUT",
    "LOGIN",
    "REFRESH",
    "RESET",
    "SEARCH",
    "SIGNUP",
    "Algorithm",
    "Policy",
    "RateLimiter",
    "WhenDown",
    "client_key",
]
