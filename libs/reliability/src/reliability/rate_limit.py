"""Fixed-window limits that cannot be bypassed: one script increments first and repairs a lost expiry.

Several limits (per client and per account, say) are decided in one round trip. Without Redis each process
counts for itself.
"""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry import metrics

from reliability.errors import RateLimited
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable

__all__ = ["Policy", "RateLimiter"]

_log = get_logger(__name__)
_decisions = metrics.get_meter("reliability").create_counter(
    "reliability.rate_limit.decisions", description="Rate limit decisions by policy and outcome"
)

# Increment first: whoever asks has been counted before anybody compares. INCR and EXPIRE as two calls can
# leave a key that never expires, so a missing TTL is set whenever it is seen.
_COUNT = """
local answer = {}
for i, key in ipairs(KEYS) do
  local count = redis.call('INCR', key)
  local ttl = redis.call('TTL', key)
  if ttl < 0 then redis.call('EXPIRE', key, ARGV[i]); ttl = tonumber(ARGV[i]) end
  answer[#answer + 1] = count
  answer[#answer + 1] = ttl
end
return answer
"""


# Subjects counted without Redis. Each costs about 200 bytes, and an attacker can make up any number of them.
_LOCAL_SUBJECTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `quota` requests per `window` seconds."""

    name: str
    quota: int
    window: int


class RateLimiter:
    """Decides whether a request may pass."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._local: dict[str, tuple[int, float]] = {}

    async def check(self, limits: Sequence[tuple[Policy, str]]) -> dict[str, str]:
        """Counts one request against every `(policy, subject)`.

        Returns the RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10) of all policies.
        Raises `RateLimited` with the same fields and the seconds until the longest refusing window ends.
        """
        keys = [f"rate:{policy.name}:{subject}" for policy, subject in limits]
        windows = [str(policy.window) for policy, _ in limits]
        try:
            flat = await self._cache.run("rate limit", lambda client: client.eval(_COUNT, len(keys), *keys, *windows))
            counts = list(zip(flat[::2], flat[1::2], strict=True))
        except CacheUnavailable:
            counts = [self._count_locally(key, policy) for key, (policy, _) in zip(keys, limits, strict=True)]
        headers = _headers(limits, counts)
        waits = [ttl for (policy, _), (count, ttl) in zip(limits, counts, strict=True) if count > policy.quota]
        for (policy, _), (count, _ttl) in zip(limits, counts, strict=True):
            _decisions.add(1, {"policy": policy.name, "outcome": "denied" if count > policy.quota else "allowed"})
        if waits:
            wait = max(1, *waits)
            _log.info("rate_limited", policies=[policy.name for policy, _ in limits], retry_after=wait)
            raise RateLimited(f"Too many attempts; try again in {wait} seconds.", retry_after=wait, headers=headers)
        return headers

    def _count_locally(self, key: str, policy: Policy) -> tuple[int, int]:
        now = time.monotonic()
        count, end = self._local.get(key, (0, 0.0))
        if end <= now:
            count, end = 0, now + policy.window
            self._make_room(now)
        self._local[key] = (count + 1, end)
        return count + 1, math.ceil(end - now)

    def _make_room(self, now: float) -> None:
        """Forgets windows that are over and, when that is not enough, the tenth that was counted first."""
        if len(self._local) < _LOCAL_SUBJECTS:
            return
        live = {name: kept for name, kept in self._local.items() if kept[1] > now}
        if len(live) >= _LOCAL_SUBJECTS:
            live = dict(itertools.islice(live.items(), _LOCAL_SUBJECTS // 10, None))
        self._local = live


def _headers(limits: Sequence[tuple[Policy, str]], counts: Sequence[tuple[int, int]]) -> dict[str, str]:
    return {
        "RateLimit-Policy": ", ".join(f'"{policy.name}";q={policy.quota};w={policy.window}' for policy, _ in limits),
        "RateLimit": ", ".join(
            f'"{policy.name}";r={max(0, policy.quota - count)};t={max(0, ttl)}'
            for (policy, _), (count, ttl) in zip(limits, counts, strict=True)
        ),
    }
