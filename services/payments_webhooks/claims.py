"""An Idempotency-Key held by a customer's request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reliability import idempotency
from reliability.cancellation import uninterrupted
from reliability.deadline import extra_time
from reliability.errors import Problem
from reliability.idempotency import Claim
from reliability.postgres import Database

__all__ = ["claimed"]

_GIVE_BACK_SECONDS = 2.0
# A little more than a request may take: a retry after a crash need not wait longer than that.
_LEASE_SECONDS = 10.0


@asynccontextmanager
async def claimed(database: Database, account_id: str) -> AsyncIterator[Claim]:
    """The running request's key for the block, which stores its answer under it.

    A refusal (below 500) had no effect that the next attempt would not find, so the key may be used again. After any
    other failure it is given back with what it stands for. Raises what `idempotency.claim` raises.
    """
    async with database.transaction("claim key") as connection:
        claim = await idempotency.claim(connection, account_id, lease_seconds=_LEASE_SECONDS)
    try:
        yield claim
    except BaseException as error:
        refused = isinstance(error, Problem) and error.status < 500
        await uninterrupted(_give_back(database, claim, refused=refused))
        raise


async def _give_back(database: Database, claim: Claim, *, refused: bool) -> None:
    with extra_time(_GIVE_BACK_SECONDS):
        async with database.transaction("give key back") as connection:
            await (claim.forget if refused else claim.release)(connection)
