"""Decides whether a request may pass, tells why, and keeps count of what was decided."""

from collections.abc import Sequence
from typing import Final

from reliability.errors import RateLimited
from reliability.logging import get_logger
from reliability.rate_limit.fallback import Fallback
from reliability.rate_limit.policy import Policy
from reliability.rate_limit.script import decide, key_of
from reliability.rate_limit.standing import Standing, fields, seconds
from reliability.redis import Cache, CacheUnavailable
from reliability.tally import Tally

__all__ = ["RateLimiter"]

_MAX_COST: Final = 1_000_000

_log = get_logger(__name__)
_decisions = Tally(
    "reliability.rate_limit.decisions",
    "Rate limit decisions by policy, outcome (allowed, denied, would_deny) and basis: redis, or what the "
    "policy does without it (share, deny, allow)",
    ["policy", "outcome", "basis"],
)


class RateLimiter:
    """Limits shared through Redis. `processes` is how many share a quota among them while Redis is away.

    Raises `ValueError` for fewer than one.
    """

    def __init__(self, cache: Cache, *, processes: int = 1) -> None:
        if processes < 1:
            raise ValueError("a quota is shared by one process at least")
        self._cache = cache
        self._fallback = Fallback(processes)

    async def check(self, limits: Sequence[tuple[Policy, str]], *, cost: int = 1) -> dict[str, str]:
        """Counts a request of `cost` units against every `(policy, subject)`, in one round trip.

        Fixed windows count it whatever is decided. GCRA limits are charged only when every limit admits the request,
        limits in the shadow aside: what was refused has spent nothing, so a caller over one limit does not use up the
        others as well. A cost above what a policy ever allows at once is never admitted.

        Returns the RateLimit fields for the answer. Raises `RateLimited` with the same fields and the seconds until
        the last of the refusing limits would admit this request; `ValueError` for a cost that is not 1 to 1,000,000,
        or the same limit twice. A call whose reply was lost is not repeated, as it would count twice.

        All keys of a call are read by one script: a cluster needs a hash tag in the subjects.
        """
        if not 1 <= cost <= _MAX_COST:
            raise ValueError(f"the cost is {cost!r}, not a whole number from 1 to {_MAX_COST}")
        policies = [policy for policy, _ in limits]
        keys = [key_of(policy, subject) for policy, subject in limits]
        if len(set(keys)) < len(keys):
            raise ValueError("the same limit twice in one call")
        try:
            standings = await decide(self._cache, keys, policies, cost)
            from_redis = True
        except CacheUnavailable:
            standings = self._fallback.decide(keys, policies, cost)
            from_redis = False
        for standing in standings:
            _record(standing, from_redis=from_redis)
        refusing = [standing for standing in standings if standing.refuses]
        if refusing:
            raise _refusal(refusing, fields(standings), counted=all(at.remaining is not None for at in refusing))
        return fields(standings)


def _record(standing: Standing, *, from_redis: bool) -> None:
    policy = standing.policy
    outcome = "allowed" if standing.admits else "would_deny" if policy.shadow else "denied"
    basis = "redis" if from_redis else policy.when_down.value
    _decisions.add(policy.name, outcome, basis)
    if outcome == "would_deny":
        _log.info("rate_limit_would_deny", policy=policy.name, basis=basis, retry_after=seconds(standing.wait))


def _refusal(refusing: Sequence[Standing], told: dict[str, str], *, counted: bool) -> RateLimited:
    wait = max(1, *(seconds(standing.wait) for standing in refusing))
    names = [standing.policy.name for standing in refusing]
    _log.info("rate_limited", policies=names, retry_after=wait)
    reason = "Too many attempts" if counted else "The number of attempts cannot be checked at the moment"
    # The member is the one of the draft's problem types (section 5.1).
    return RateLimited(
        f"{reason}; try again in {wait} seconds.", retry_after=wait, headers=told, **{"violated-policies": names}
    )
