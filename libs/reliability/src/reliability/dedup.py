"""Blocks the second click for a while: atomic `SET NX EX` with an owner token.

This is the fast guard. It may be lost with Redis; a unique constraint in the owning database carries the promise.
Needs Redis 7 or any Valkey: `SET` with both NX and GET.
"""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from reliability.cancellation import uninterrupted
from reliability.deadline import CACHE_CAP, extra_time
from reliability.errors import DuplicateRequest
from reliability.fingerprint import fingerprint
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable, Script
from reliability.tally import Tally

__all__ = ["Claim", "deduplicate", "deduplicated"]

P = ParamSpec("P")
R = TypeVar("R")

_log = get_logger(__name__)
_outcomes = Tally(
    "reliability.dedup.outcomes",
    "Deduplicated operations by outcome: allowed, blocked, or unguarded when Redis did not answer",
    ["operation", "outcome"],
)

# The owner is compared inside the server, so that nobody deletes a key that has changed hands meanwhile.
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")


class Claim:
    """What the holder of the key knows: whether something has happened that must not happen again.

    Made by `deduplicate`; the key stays for `ttl` seconds. Entering raises `DuplicateRequest`.
    """

    def __init__(self, cache: Cache, operation: str, key: str, ttl: int) -> None:
        self.had_effect = False
        self._cache = cache
        self._operation = operation
        self._key = key
        self._ttl = ttl
        self._owner = new_id()

    def effect(self) -> None:
        """Says that from here on a failure leaves something behind: the key is kept."""
        self.had_effect = True

    async def __aenter__(self) -> Self:
        try:
            outcome = await self._take()
        except asyncio.CancelledError:  # what was sent may arrive all the same, and nobody would give it back
            await uninterrupted(self._release())
            raise
        _outcomes.add(self._operation, outcome)
        if outcome == "blocked":
            left = await self._left()
            _log.info("duplicate_blocked", operation=self._operation, retry_after=left)
            raise DuplicateRequest("The same request was made a moment ago and is being handled.", retry_after=left)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self.had_effect:
            await uninterrupted(self._release())

    async def _take(self) -> str:
        """`allowed`, `blocked` or `unguarded`.

        A call that failed may have arrived, and only its reply was lost. It is made once more with the same token: the
        key that was set by the first is recognised as our own, and whoever else has it blocks us as usual.
        """
        command = ("SET", self._key, self._owner, "NX", "GET", "EX", self._ttl)
        for step in ("dedup claim", "dedup claim again"):
            try:
                holder = await self._cache.call(step, command)
            except CacheUnavailable:
                continue
            # None when the key was free and is ours now, else the token of whoever holds it.
            return "allowed" if holder is None or holder == self._owner.encode() else "blocked"
        return "unguarded"

    async def _left(self) -> int:
        """Whole seconds until the key expires, at least 1; a key that never would is made to."""
        try:
            _, left = await self._cache.call("dedup left", ("EXPIRE", self._key, self._ttl, "NX"), ("TTL", self._key))
        except CacheUnavailable:
            return self._ttl
        return max(1, int(left))

    async def _release(self) -> None:
        try:
            with extra_time(CACHE_CAP):  # the block may have failed because its time was up
                await self._cache.script("dedup release", _RELEASE, [self._key], [self._owner])
        except CacheUnavailable:
            _log.warning("dedup_release_failed", key=self._key)


def deduplicate(cache: Cache, operation: str, payload: Any, *, user: str | None = None, ttl: int = 60) -> Claim:
    """Lets an `async with` block run once per `ttl` seconds for the same operation and payload (see `fingerprint`).

    The scope is `user`, or everybody when None. Success keeps the key until it expires; a failure before
    `claim.effect()` gives it back, also when it is a cancellation. Raises `DuplicateRequest` (429) with the seconds
    left. Without Redis the block runs: what must not happen twice is held by the database.

        async with deduplicate(cache, "send campaign", {"campaign": campaign_id}, user=staff_id) as claim: ...
    """
    return Claim(cache, operation, f"dedup:{operation}:{fingerprint(operation, payload, user=user)}", ttl)


def deduplicated(
    cache: Cache,
    operation: str,
    *,
    payload: Callable[..., Any] | None = None,
    user: Callable[..., str | None] | None = None,
    ttl: int = 60,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Makes an async function run once per `ttl` seconds for the same arguments; see `deduplicate`.

    `payload` and `user` are called with the function's arguments. Without `payload` all of them count, by name, so
    that it does not matter how they are passed; without `user` the scope is everybody. Any failure gives the key
    back: where something may have happened before it, use `deduplicate` and say so with `claim.effect()`.

        @deduplicated(cache, "send campaign", user=lambda campaign_id, staff_id: staff_id)
        async def send(campaign_id: str, staff_id: str) -> None: ...
    """

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        async def once(*args: P.args, **kwargs: P.kwargs) -> R:
            asked = _arguments(signature, args, kwargs) if payload is None else payload(*args, **kwargs)
            whose = None if user is None else user(*args, **kwargs)
            async with deduplicate(cache, operation, asked, user=whose, ttl=ttl):
                return await function(*args, **kwargs)

        return once

    return decorate


def _arguments(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
