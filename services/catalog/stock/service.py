"""Promising stock, taking it, giving it back. Every call may come twice, late, or beside another.

                 ┌── ExtendHold
                 ▼   │
HoldStock ────> held ──CommitStock──> committed
                 │ │                      ▲
                 │ │expire_holds          │ CommitStock, when the stock is still there
                 │ ▼                      │
    ReleaseStock │ expired ───────────────┤
                 ▼                        │ CommitStock, when it is not, or nothing was ever held
ReleaseStock > released <─────────────────┘

What was said of a hold's end stays true: committed and released are final. A call that arrives when its caller, or
another, has long been told how it ended is told the same.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import asyncpg

from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.postgres import Connection, Database
from services.catalog.products.domain import Price
from services.catalog.stock import repository
from services.catalog.stock.domain import (
    Hold,
    HoldKey,
    HoldState,
    Line,
    price_moves,
    same_lines,
    shortages,
    unknown_variants,
)
from services.catalog.stock.errors import (
    HoldCommitted,
    HoldLost,
    HoldMismatch,
    HoldReleased,
    OrderCommitted,
    OutOfStock,
    PriceChanged,
    UnknownHold,
    UnknownVariant,
)

__all__ = ["StockService"]

_BATCH: Final = 100


class StockService:
    """What each method changes is one transaction; what is refused leaves nothing, not even the hold's name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(
        self, key: HoldKey, lines: Sequence[Line], ttl: timedelta, prices: Mapping[UUID, Price] | None = None
    ) -> datetime:
        """Promises all `lines` or none; until when. Asking again for the same changes nothing.

        `prices` has what the variants are being sold for, as far as that matters. Raises `OutOfStock`, `PriceChanged`,
        `UnknownVariant`, `HoldReleased`, or `HoldMismatch` when the name is taken.
        """
        prices = prices or {}
        while True:
            try:
                async with self._database.connection() as connection:
                    until = await repository.hold(connection, key, lines, prices, ttl, correlation_id())
            except asyncpg.CheckViolationError as error:
                if error.constraint_name not in {repository.NEVER_OVERSOLD, repository.SOME_PIECES}:
                    raise
                until = None  # somebody took the stock, or moved the price, while we waited for it
            if until is not None:
                crash_point("hold.not_answered")
                return until
            # Each time round, somebody gave stock back after we had found none, or the price went there and back.
            async with self._database.transaction("look at hold") as connection:
                if hold := await repository.lock_hold(connection, key):
                    return await _same_hold(connection, key, hold, lines)
                stock = await repository.stock(connection, [line.variant_id for line in lines])
            if places := unknown_variants(lines, stock):
                raise UnknownVariant(lines, places)
            if short := shortages(lines, stock):
                raise OutOfStock(short)
            if moves := price_moves(prices, stock):
                raise PriceChanged(moves)

    async def extend(self, key: HoldKey, ttl: timedelta) -> datetime:
        """Moves the end of a live hold to `ttl` from now unless it is later already; the end.

        Raises `UnknownHold`, `HoldReleased` or `HoldCommitted` when there is no live hold.
        """
        async with self._database.transaction("extend hold") as connection:
            if extended := await repository.extend(connection, key, ttl):
                return extended.expires_at
            hold = await repository.lock_hold(connection, key)
        raise _not_live(hold)

    async def release(self, key: HoldKey) -> None:
        """Gives the stock of a hold back; one that never was is remembered as released.

        Raises `HoldCommitted` when the stock was sold.
        """
        async with self._database.transaction("release stock") as connection:
            was = await repository.release(connection, key, correlation_id())
            match was:
                case HoldState.HELD:
                    await repository.put_back(connection, [key])
                case HoldState.COMMITTED:
                    raise HoldCommitted
                case HoldState.RELEASED | HoldState.EXPIRED | None:
                    return
                case _:
                    assert_never(was)

    async def commit(self, key: HoldKey, customer_id: UUID | None) -> None:
        """Takes the stock of a hold out of the warehouse; one that ended by its time is held anew first.

        Raises `HoldLost` when that cannot be, from then on for ever: who is told so sends money back. Raises
        `OrderCommitted` when the order's stock was taken before.
        """
        try:
            async with self._database.connection() as connection:  # the usual case is one statement
                if await repository.commit(connection, key, customer_id, correlation_id()):
                    return
            async with self._database.transaction("commit stock") as connection:
                lost = await _commit_late(connection, key, customer_id)
        except asyncpg.UniqueViolationError as error:
            raise OrderCommitted from error
        if lost is not None:
            raise lost

    async def release_expired(self, backstop: timedelta) -> int:
        """Gives back a batch of holds that ended more than `backstop` ago; how many. 0 when none is left."""
        async with self._database.transaction("release expired holds") as connection:
            ended = await repository.release_expired(connection, backstop, _BATCH)
            if ended:
                await repository.put_back(connection, ended)
            return len(ended)


async def _same_hold(connection: Connection, key: HoldKey, hold: Hold, lines: Sequence[Line]) -> datetime:
    """The end of a hold that was made before, when it is the one asked for."""
    if hold.state in {HoldState.RELEASED, HoldState.EXPIRED}:
        raise HoldReleased
    if not same_lines(lines, await repository.lines(connection, key)):
        raise HoldMismatch
    return hold.expires_at


async def _commit_late(connection: Connection, key: HoldKey, customer_id: UUID | None) -> HoldLost | None:
    """Commits a hold that was not live; or ends it for good, with the reason."""
    hold = await repository.lock_name(connection, key, correlation_id())
    match hold.state:
        case HoldState.COMMITTED:
            return None
        case HoldState.RELEASED:
            return HoldLost("The hold was released; its stock is not the order's any more.")
        case HoldState.EXPIRED:
            if lost := await _hold_again(connection, key):
                await repository.release(connection, key, correlation_id())
                return lost
        case HoldState.HELD:
            pass
        case _:
            assert_never(hold.state)
    await repository.commit(connection, key, customer_id, correlation_id())
    return None


async def _hold_again(connection: Connection, key: HoldKey) -> HoldLost | None:
    """Makes a hold that had ended a live one; why not, when that cannot be."""
    wanted = await repository.lines(connection, key)
    if not wanted:
        return HoldLost("There never was a hold of this name.")
    if short := shortages(wanted, await repository.lock_stock(connection, key)):
        return HoldLost("The hold had ended, and the stock was sold meanwhile.", short)
    await repository.hold_again(connection, key)
    return None


def _not_live(hold: Hold | None) -> UnknownHold | HoldReleased | HoldCommitted:
    if hold is None:
        return UnknownHold()
    return HoldCommitted() if hold.state is HoldState.COMMITTED else HoldReleased()
