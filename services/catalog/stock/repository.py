"""Every statement that moves stock.

One order of locks rules them all: first the row of the hold, then variants in SKU order. Whoever waits for a
hold has no variant locked yet, so nobody can wait in a circle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from reliability.postgres import Connection
from services.catalog.stock.domain import Hold, HoldKey, HoldState, Line, Stock

__all__ = [
    "Claimed",
    "claim",
    "commit",
    "extend",
    "hold_again",
    "lines",
    "lock_hold",
    "lock_stock",
    "put_back",
    "release",
    "release_expired",
    "take",
]

# The upsert waits for whoever is making or ending the same hold, and then sees how that ended. The stock is
# locked behind it in the same round trip; `available` is what it is once the lock is there.
_CLAIM: Final = """
WITH claimed AS (
    INSERT INTO holds (order_id, attempt, state, expires_at, correlation_id)
    VALUES ($1, $2, 'held', now() + $3, $4)
        ON CONFLICT (order_id, attempt) DO UPDATE SET attempt = excluded.attempt
    RETURNING old.attempt IS NULL AS fresh, new.state, new.expires_at),
locked AS MATERIALIZED (
    SELECT v.id, v.sku, v.on_hand - v.held AS available
      FROM variants AS v, claimed
     WHERE claimed.fresh AND v.id = ANY($5::uuid[])
     ORDER BY v.sku
       FOR NO KEY UPDATE OF v)
SELECT fresh, state, expires_at, id, sku, available FROM claimed LEFT JOIN locked ON true
"""
_TAKE: Final = """
WITH wanted AS (SELECT * FROM unnest($3::uuid[], $4::bigint[]) AS line (variant_id, quantity)),
kept AS (
    INSERT INTO hold_lines (order_id, attempt, variant_id, quantity)
    SELECT $1, $2, variant_id, quantity FROM wanted)
UPDATE variants SET held = held + quantity FROM wanted WHERE id = variant_id
"""
_LINES: Final = "SELECT variant_id, quantity FROM hold_lines WHERE order_id = $1 AND attempt = $2"
_LOCK_HOLD: Final = "SELECT state, expires_at FROM holds WHERE order_id = $1 AND attempt = $2 FOR UPDATE"
_LOCK_STOCK: Final = """
SELECT v.id, v.sku, v.on_hand - v.held AS available
  FROM variants AS v
 WHERE v.id IN (SELECT variant_id FROM hold_lines WHERE order_id = $1 AND attempt = $2)
 ORDER BY v.sku
   FOR NO KEY UPDATE OF v
"""
_HOLD_AGAIN: Final = """
WITH hold AS (
    UPDATE holds SET state = 'held', changed_at = now()
     WHERE order_id = $1 AND attempt = $2 AND state = 'released'
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
# Leaves a tombstone where no hold was. Whatever is not held any more stays as it is.
_RELEASE: Final = """
INSERT INTO holds AS hold (order_id, attempt, state, expires_at, correlation_id)
VALUES ($1, $2, 'released', now(), $3)
    ON CONFLICT (order_id, attempt) DO UPDATE
       SET state = CASE hold.state WHEN 'held' THEN 'released' ELSE hold.state END,
           changed_at = CASE hold.state WHEN 'held' THEN now() ELSE hold.changed_at END
RETURNING old.state
"""
_RELEASE_EXPIRED: Final = """
UPDATE holds SET state = 'released', changed_at = now()
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


@dataclass(frozen=True, slots=True)
class Claimed:
    """A hold, whether this call made it, and then the locked stock of the variants asked for."""

    hold: Hold
    fresh: bool
    stock: dict[UUID, Stock]


async def claim(
    connection: Connection, key: HoldKey, variant_ids: Sequence[UUID], ttl: timedelta, correlation_id: str
) -> Claimed:
    """Makes the hold if there is none under this name, and locks it either way."""
    rows = await connection.fetch(_CLAIM, key.order_id, key.attempt, ttl, correlation_id, list(variant_ids))
    first = rows[0]
    stock = {row["id"]: Stock(row["id"], row["sku"], row["available"]) for row in rows if row["id"] is not None}
    return Claimed(Hold(HoldState(first["state"]), first["expires_at"]), first["fresh"], stock)


async def take(connection: Connection, key: HoldKey, lines: Sequence[Line]) -> None:
    """Writes the lines of a fresh hold; their variants are locked."""
    ids, quantities = [line.variant_id for line in lines], [line.quantity for line in lines]
    await connection.execute(_TAKE, key.order_id, key.attempt, ids, quantities)


async def lines(connection: Connection, key: HoldKey) -> list[Line]:
    """The lines of a hold; none when it is a tombstone without a hold."""
    rows = await connection.fetch(_LINES, key.order_id, key.attempt)
    return [Line(row["variant_id"], row["quantity"]) for row in rows]


async def lock_hold(connection: Connection, key: HoldKey) -> Hold | None:
    """Locks a hold, if there is one."""
    row = await connection.fetchrow(_LOCK_HOLD, key.order_id, key.attempt)
    return None if row is None else Hold(HoldState(row["state"]), row["expires_at"])


async def lock_stock(connection: Connection, key: HoldKey) -> dict[UUID, Stock]:
    """Locks the variants of a locked hold."""
    rows = await connection.fetch(_LOCK_STOCK, key.order_id, key.attempt)
    return {row["id"]: Stock(row["id"], row["sku"], row["available"]) for row in rows}


async def hold_again(connection: Connection, key: HoldKey) -> None:
    """Makes a released hold a live one; its variants are locked."""
    await connection.execute(_HOLD_AGAIN, key.order_id, key.attempt)


async def extend(connection: Connection, key: HoldKey, ttl: timedelta) -> Hold | None:
    """Moves the end of a live hold, later only; `None` when it is not live."""
    row = await connection.fetchrow(_EXTEND, key.order_id, key.attempt, ttl)
    return None if row is None else Hold(HoldState(row["state"]), row["expires_at"])


async def release(connection: Connection, key: HoldKey, correlation_id: str) -> HoldState | None:
    """Ends a live hold, or leaves a tombstone; what it was before. The stock is still to be put back."""
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
