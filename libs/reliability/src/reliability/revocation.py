"""Tokens that are taken back before their end: a short list of which every verifier keeps a copy.

The issuer publishes the list in Redis, whole, with a mark that says so; a verifier whose copy is older than
`max_age` reads it there. When Redis is away, or has lost the list (the mark is gone), it asks the issuer. When both are
away, the copy decides: a token ends by itself within a quarter of an hour.

A name is `session:<id>` or `account:<id>`. A session is over for good; of an account, what was issued before is over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from reliability.errors import Problem
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable

__all__ = ["Revocations", "account", "publish", "session"]

_KEY: Final = "revocations"
_COMPLETE: Final = "complete"
# Accounts publishes again every minute; a list it has left alone for an hour says nothing any more.
_KEPT: Final = 3600

_log = get_logger(__name__)

Fetch = Callable[[], Awaitable[Mapping[str, float]]]


def session(session_id: str) -> str:
    """The name of a session."""
    return f"session:{session_id}"


def account(account_id: str) -> str:
    """The name of an account."""
    return f"account:{account_id}"


async def publish(cache: Cache, revoked: Mapping[str, float], *, since: float) -> None:
    """Puts `revoked`, names and Unix times in seconds, on the list in Redis, and takes off what is from before `since`.

    `revoked` is everything from then on. Nothing newer is taken off: another process may have published more.
    Raises `CacheUnavailable`.
    """
    members = {**revoked, _COMPLETE: float("inf")}

    async def add(client: Any) -> None:
        async with client.pipeline(transaction=True) as pipeline:
            await pipeline.zremrangebyscore(_KEY, "-inf", since).zadd(_KEY, members).expire(_KEY, _KEPT).execute()

    await cache.run("publish revocations", add)


class Revocations:
    """This process's copy of the list; `fetch` asks the issuer for it. A copy is good for `max_age` seconds."""

    def __init__(
        self,
        fetch: Fetch,
        cache: Cache | None = None,
        *,
        max_age: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._cache = cache
        self._max_age = max_age
        self._clock = clock
        self._copy: Mapping[str, float] = {}
        self._copied_at = float("-inf")
        self._copying = asyncio.Lock()

    async def cover(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token with these claims (`sid`, `sub`, `iat`) is taken back."""
        await self._refresh()
        if session(str(claims.get("sid", ""))) in self._copy:
            return True
        since = self._copy.get(account(str(claims.get("sub", ""))))
        # `iat` is in whole seconds, rounded down: of what was issued in the second of the revocation, all is over.
        return since is not None and float(claims.get("iat", 0)) <= since

    async def _refresh(self) -> None:
        if self._clock() - self._copied_at < self._max_age:
            return
        async with self._copying:
            if self._clock() - self._copied_at < self._max_age:
                return
            try:
                copy = await self._from_cache()
                self._copy = await self._fetch() if copy is None else copy
            except Problem as problem:
                _log.warning("revocations_unknown", code=problem.code)  # the copy decides
            self._copied_at = self._clock()

    async def _from_cache(self) -> Mapping[str, float] | None:
        if self._cache is None:
            return None
        try:
            found = await self._cache.run("revocations", _read)
        except CacheUnavailable:
            return None
        listed = {name.decode(): score for name, score in found}
        return listed if listed.pop(_COMPLETE, None) is not None else None


async def _read(client: Any) -> list[tuple[bytes, float]]:
    found: list[tuple[bytes, float]] = await client.zrange(_KEY, 0, -1, withscores=True)
    return found
