"""Every statement that moves stock.

One order of locks rules them all: first the row of the hold, then variants in SKU order. Whoever waits for a
hold has no variant locked yet, so nobody can wait in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from reliability.postgres import Connection
from services.catalog.products.domain import Price
from services.catalog.stock.domain import Hold, HoldKey, HoldState, Line, Stock

__all__ = [
    "NEVER_OVERSOLD",
    "SOME_PIECES",
    "commit",
    "extend",
    "hold",
    "hold_again",
    "lines",
    "lock_hold",
    "lock_name",
    "lock_stock",
    "put_back",
    "release",
    "release_expired",
    "stock",
]

NEVER_OVERSOLD: Final = "never_oversold"
"""The constraint that refuses what would be sold twice."""
SOME_PIECES: Final = "hold_lines_quantity_check"
"""The constraint that refuses a line whose price has moved."""

# All in one statement, which changes nothing when the name is used, stock is missing or a price is another. Behind
# another hold of this name it waits, and behind whoever has a variant; if the stock is gone then, `never_oversold`
# refuses all of it, and if the price has moved, `quantity` does, as a line of no pieces.
_HOLD: Final = """
WITH wanted AS MATERIALIZED (
    SELECT v.id, line.quantity, line.price,
           v.on_hand - v.held >= line.quantity
           AND (line.price IS NULL OR (line.price, line.currency) = (v.price, p.currency)) AS good
      FROM unnest($5::uuid[], $6::bigint[], $7::bigint[], $8::text[]) AS line (id, quantity, price, currency)
      JOIN variants AS v USING (id) JOIN products AS p ON p.id = v.product_id),
claimed AS (
    INSERT INTO holds (order_id, attempt, state, expires_at, correlation_id)
    SELECT $1, $2, 'held', now() + $3, $4
     WHERE (SELECT count(*) FILTER (WHERE good) FROM wanted) = cardinality($5)
        ON CONFLICT (order_id, attempt) DO NOTHING
    RETURNING expires_at),
locked AS MATERIALIZED (
    SELECT v.id, wanted.quantity, wanted.price IS NULL OR wanted.price = v.price AS still
      FROM claimed, wanted JOIN variants AS v USING (id)
     ORDER BY v.sku
       FOR NO KEY UPDATE OF v),
kept AS (
    INSERT INTO hold_lines (order_id, attempt, variant_id, quantity)
    SELECT $1, $2, id, CASE WHEN still THEN quantity ELSE 0 END FROM locked),
taken AS (UPDATE variants SET held = held + locked.quantity FROM locked WHERE variants.id = locked.id)
SELECT expires_at FROM claimed
"""
_LINES: Final = "SELECT variant_id, quantity FROM hold_lines WHERE order_id = $1 AND attempt = $2"
_LOCK_HOLD: Final = "SELECT state, expires_at FROM holds WHERE order_id = $1 AND attempt = $2 FOR UPDATE"
_LOCK_NAME: Final = """
INSERT INTO holds AS hold (order_id, attempt, state, expires_at, correlation_id)
VALUES ($1, $2, 'expired', now(), $3)
    ON CONFLICT (order_id, attempt) DO UPDATE SET state = hold.state
RETURNING state, expires_at
"""
_STOCK: Final = """
SELECT v.id, v.sku, v.on_hand - v.held AS available, v.price, p.currency
  FROM variants AS v JOIN products AS p ON p.id = v.product_id
 WHERE v.id = ANY($1::uuid[])
"""
_LOCK_STOCK: Final = """
SELECT v.id, v.sku, v.on_hand - v.held AS available, v.price, p.currency
  FROM variants AS v JOIN products AS p ON p.id = v.product_id
 WHERE v.id IN (SELECT variant_id FROM hold_lines WHERE order_id = $1 AND attempt = $2)
 ORDER BY v.sku
   FOR NO KEY UPDATE OF v
"""
_HOLD_AGAIN: Final = """
WITH hold AS (
    UPDATE holds SET state = 'held', changed_at = now()
     WHERE order_id = $1 AND attempt = $2 AND state = 'expired'
    RETURNING order_id, attempt)
UPDATE variants SET held = held + line.quantity
  FROM hold JOIN hold_lines AS line USING (order_id, attempt)
 WHERE variants.id = line.variant_id
"""
_EXTEND: Final = """
UPDATE holds SET expires_at = greatest(expires_at, now() + $3), changed_at = now()
 WHERE order_id = $1 AND attempt = $2 AND state = 'held'
RETURNING state, expires_at
"""
# Leaves a tombstone where no hold was. What is sold stays sold.
_RELEASE: Final = """
INSERT INTO holds AS hold (order_id, attempt, state, expires_at, correlation_id)
VALUES ($1, $2, 'released', now(), $3)
    ON CONFLICT (order_id, attempt) DO UPDATE
       SET state = CASE hold.state WHEN 'committed' THEN hold.state ELSE 'released' END,
           changed_at = CASE WHEN hold.state IN ('held', 'expired') THEN now() ELSE hold.changed_at END
RETURNING old.state
"""
_RELEASE_EXPIRED: Final = """
UPDATE holds SET state = 'expired', changed_at = now()
 WHERE state = 'held' AND (order_id, attempt) IN (
       SELECT order_id, attempt FROM holds
        WHERE state = 'held' AND expires_at < now() - $1::interval
        ORDER BY expires_at
        LIMIT $2
          FOR UPDATE SKIP LOCKED)
RETURNING order_id, attempt
"""
_PUT_BACK: Final = """
WITH owed AS (
    SELECT variant_id, sum(quantity)::bigint AS quantity
      FROM hold_lines JOIN unnest($1::uuid[], $2::int[]) AS ended (order_id, attempt) USING (order_id, attempt)
     GROUP BY variant_id),
locked AS MATERIALIZED (
    SELECT v.id, owed.quantity
      FROM variants AS v JOIN owed ON owed.variant_id = v.id
     ORDER BY v.sku
       FOR NO KEY UPDATE OF v)
UPDATE variants SET held = held - locked.quantity FROM locked WHERE variants.id = locked.id
"""
_COMMIT: Final = """
WITH hold AS (
    UPDATE holds SET state = 'committed', changed_at = now()
     WHERE order_id = $1 AND attempt = $2 AND state = 'held'
    RETURNING order_id, attempt),
locked AS MATERIALIZED (
    SELECT v.id, line.quantity
      FROM hold JOIN hold_lines AS line USING (order_id, attempt) JOIN variants AS v ON v.id = line.variant_id
     ORDER BY v.sku
       FOR NO KEY UPDATE OF v),
moved AS (
    UPDATE variants SET on_hand = on_hand - locked.quantity, held = held - locked.quantity
      FROM locked WHERE variants.id = locked.id)
INSERT INTO sales (order_id, variant_id, quantity, customer_id, correlation_id)
SELECT $1, id, quantity, $3, $4 FROM locked
"""


async def hold(
    connection: Connection,
    key: HoldKey,
    lines: Sequence[Line],
    prices: Mapping[UUID, Price],
    ttl: timedelta,
    correlation_id: str,
) -> datetime | None:
    """Promises all lines; until when.

    None, with nothing changed, when the name is used, stock is missing or something costs not what `prices` has for it.

    Raises asyncpg's `CheckViolationError` when somebody took that stock, or moved the price, in the same moment.
    """
    expected = [prices.get(line.variant_id) for line in lines]
    until: datetime | None = await connection.fetchval(
        _HOLD,
        key.order_id,
        key.attempt,
        ttl,
        correlation_id,
        [line.variant_id for line in lines],
        [line.quantity for line in lines],
        [price and price.amount for price in expected],
        [price and price.currency for price in expected],
    )
    return until


async def lines(connection: Connection, key: HoldKey) -> list[Line]:
    """The lines of a hold; none when it is a tombstone without a hold."""
    rows = await connection.fetch(_LINES, key.order_id, key.attempt)
    return [Line(row["variant_id"], row["quantity"]) for row in rows]


async def lock_hold(connection: Connection, key: HoldKey) -> Hold | None:
    """Locks a hold, if there is one."""
    row = await connection.fetchrow(_LOCK_HOLD, key.order_id, key.attempt)
    return None if row is None else Hold(HoldState(row["state"]), row["expires_at"])


async def lock_name(connection: Connection, key: HoldKey, correlation_id: str) -> Hold:
    """Locks a hold; where there is none, an expired one without lines is left, so that none can come between."""
    row = await connection.fetchrow(_LOCK_NAME, key.order_id, key.attempt, correlation_id)
    assert row is not None  # inserted or found
    return Hold(HoldState(row["state"]), row["expires_at"])


async def stock(connection: Connection, variant_ids: Sequence[UUID]) -> dict[UUID, Stock]:
    """What can be sold of the variants that exist."""
    return _stock(await connection.fetch(_STOCK, variant_ids))


async def lock_stock(connection: Connection, key: HoldKey) -> dict[UUID, Stock]:
    """Locks the variants of a locked hold."""
    return _stock(await connection.fetch(_LOCK_STOCK, key.order_id, key.attempt))


async def hold_again(connection: Connection, key: HoldKey) -> None:
    """Makes a hold that had ended a live one; its variants are locked."""
    await connection.execute(_HOLD_AGAIN, key.order_id, key.attempt)


async def extend(connection: Connection, key: HoldKey, ttl: timedelta) -> Hold | None:
    """Moves the end of a live hold, later only; `None` when it is not live."""
    row = await connection.fetchrow(_EXTEND, key.order_id, key.attempt, ttl)
    return None if row is None else Hold(HoldState(row["state"]), row["expires_at"])


async def release(connection: Connection, key: HoldKey, correlation_id: str) -> HoldState | None:
    """Ends a hold for good, or leaves a tombstone; what it was before. Stock that was held is still to be put back."""
    was = await connection.fetchval(_RELEASE, key.order_id, key.attempt, correlation_id)
    return None if was is None else HoldState(was)


async def release_expired(connection: Connection, backstop: timedelta, limit: int) -> list[HoldKey]:
    """Ends holds that are over for longer than `backstop`, oldest first, passing by those in use.

    Their stock is still to be put back.
    """
    rows = await connection.fetch(_RELEASE_EXPIRED, backstop, limit)
    return [HoldKey(row["order_id"], row["attempt"]) for row in rows]


async def put_back(connection: Connection, ended: Sequence[HoldKey]) -> None:
    """Puts the stock of holds that have just ended back on the shelf."""
    await connection.execute(_PUT_BACK, [key.order_id for key in ended], [key.attempt for key in ended])


async def commit(connection: Connection, key: HoldKey, customer_id: UUID | None, correlation_id: str) -> bool:
    """Takes the stock of a live hold out of the warehouse, and notes who bought it; False when there is none."""
    done = await connection.execute(_COMMIT, key.order_id, key.attempt, customer_id, correlation_id)
    return done != "INSERT 0 0"


def _stock(rows: Iterable[asyncpg.Record]) -> dict[UUID, Stock]:
    return {
        row["id"]: Stock(row["id"], row["sku"], row["available"], Price(row["price"], row["currency"])) for row in rows
    }
