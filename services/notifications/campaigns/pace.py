"""How fast campaigns go out, all workers together."""

from typing import Final

from reliability.errors import RateLimited
from reliability.rate_limit import Algorithm, Policy, RateLimiter

__all__ = ["Pace"]

_EVERYBODY: Final = "all"


class Pace:
    """So many mails a second. `burst` is the most that one request takes at once."""

    def __init__(self, limiter: RateLimiter, *, per_second: int, burst: int) -> None:
        self._limiter = limiter
        self._policy = Policy("campaigns", per_second, 1, Algorithm.GCRA, burst=max(burst, per_second))

    async def seconds_for(self, mails: int) -> float:
        """Seconds to wait before so many mails may go; 0 when they may go now, and are counted."""
        try:
            await self._limiter.check([(self._policy, _EVERYBODY)], cost=mails)
        except RateLimited as limited:
            return limited.retry_after or 1.0
        return 0.0
