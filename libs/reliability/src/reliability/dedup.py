"""Blocks the second click for a while: atomic `SET NX EX` with an owner token.

This is the fast guard. It may be lost with Redis; a unique constraint in the owning database carries the promise.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry import metrics

from reliability.deadline import CACHE_CAP, extra_time
from reliability.errors import DuplicateRequest
from reliability.fingerprint import fingerprint
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable

__all__ = ["Claim", "deduplicate"]

_log = get_logger(__name__)
_outcomes = metrics.get_meter("reliability").create_counter(
    "reliability.dedup.outcomes", description="Deduplicated operations by outcome"
)

# The owner is compared inside the server, so that nobody deletes a key that has changed hands meanwhile.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# NX first; a key that already holds our own token is a lost reply to our own call, not a duplicate.
_CLAIM = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return -1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return -1 end
local ttl = redis.call('TTL', KEYS[1])
if ttl < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]); ttl = tonumber(ARGV[2]) end
return ttl
"""


class Claim:
    """What the holder of the key knows: whether something has happened that must not happen again."""

    def __init__(self) -> None:
        self.had_effect = False

    def effect(self) -> None:
        """Says that from here on a failure leaves something behind: the key is kept."""
        self.had_effect = True


@asynccontextmanager
async def deduplicate(
    cache: Cache, operation: str, payload: Any, *, user: str | None = None, ttl: int = 60
) -> AsyncIterator[Claim]:
    """Lets the block run once per `ttl` seconds for the same operation and payload.

    The scope is `user`, or everybody when None. Success keeps the key until it expires; a failure before
    `claim.effect()` gives it back. Raises `DuplicateRequest` (429) with the seconds left.
    Without Redis the block runs: what must not happen twice is held by the database.
    """
    key = f"dedup:{operation}:{'*' if user is None else f'={user}'}:{fingerprint(operation, payload)}"
    owner = new_id()
    try:
        left = int(await cache.run("dedup claim", lambda client: client.eval(_CLAIM, 1, key, owner, str(ttl))))
    except CacheUnavailable:
        # Our SET may have arrived although the reply did not: the owner token lets us clean up below.
        left = -1
        _outcomes.add(1, {"operation": operation, "outcome": "unguarded"})
    if left >= 0:
        _outcomes.add(1, {"operation": operation, "outcome": "blocked"})
        _log.info("duplicate_blocked", operation=operation, retry_after=left)
        message = "The same request was made a moment ago and is being handled."
        raise DuplicateRequest(message, retry_after=max(1, left))
    claim = Claim()
    try:
        yield claim
    except BaseException:
        if not claim.had_effect:
            await _release(cache, key, owner)
        raise
    _outcomes.add(1, {"operation": operation, "outcome": "allowed"})


async def _release(cache: Cache, key: str, owner: str) -> None:
    try:
        with extra_time(CACHE_CAP):  # the block may have failed because its time was up
            await cache.run("dedup release", lambda client: client.eval(_RELEASE, 1, key, owner))
    except CacheUnavailable:
        _log.warning("dedup_release_failed", key=key)
