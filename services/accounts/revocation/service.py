"""Takes tokens back, and tells everybody who verifies them."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from reliability import jobs, revocation
from reliability.postgres import Connection, Database
from reliability.redis import Cache
from services.accounts.revocation import repository

__all__ = ["PUBLISH", "RevocationService", "revoke"]

PUBLISH: Final = "publish_revocations"
# Clocks differ, and verifiers are lenient by some seconds.
_MARGIN: Final = 60.0


async def revoke(connection: Connection, *, sessions: Iterable[str] = (), accounts: Iterable[str] = ()) -> None:
    """Takes back the tokens of sessions, and all that accounts were given so far, in the caller's transaction.

    The job that tells the others is in it too; one after the other, so that none publishes less than the one before.
    """
    names = [*map(revocation.session, sessions), *map(revocation.account, accounts)]
    if not names:
        return
    await repository.add(connection, names)
    await jobs.enqueue(connection, PUBLISH, {}, order_key=PUBLISH, max_attempts=1000)


class RevocationService:
    """`lifetime` is how many seconds a token lives: what was taken back longer ago is over by itself."""

    def __init__(self, database: Database, cache: Cache, *, lifetime: float) -> None:
        self._database = database
        self._cache = cache
        self._kept = lifetime + _MARGIN

    async def current(self) -> Mapping[str, float]:
        """What could still be used otherwise."""
        async with self._database.connection() as connection:
            return await repository.since(connection, self._kept)

    async def cover(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token is taken back: for our own routes, which need not wait for a list to be copied."""
        session, account = revocation.session(str(claims.get("sid", ""))), revocation.account(claims["sub"])
        async with self._database.connection() as connection:
            return await repository.covers(connection, session, account, float(claims["iat"]))

    async def publish(self) -> None:
        """Puts it in Redis. Raises `CacheUnavailable`."""
        await revocation.publish(self._cache, await self.current(), since=time.time() - 2 * self._kept)

    async def prune(self) -> int:
        """Forgets what is over by itself."""
        async with self._database.transaction("prune revocations") as connection:
            return await repository.prune(connection, 2 * self._kept)
