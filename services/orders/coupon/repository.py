"""Every statement on coupons and their redemptions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from reliability.postgres import Connection
from services.orders.coupon.domain import Coupon, CouponKind

__all__ = [
    "by_code",
    "change",
    "coupon",
    "delete",
    "give_back",
    "insert",
    "listed",
    "lock",
    "redeem",
    "used",
    "was_used",
]

_COLUMNS: Final = """
id::text, code, kind, value, currency, minimum, starts_at, ends_at, total_limit, per_customer_limit, active, redeemed
"""
# An address counts in whatever case it is written, and for whoever is signed in.
_USED: Final = """
SELECT count(*) FROM coupon_redemptions
 WHERE coupon_id = $1 AND released_at IS NULL AND (customer_id = $2 OR email = lower($3))
"""
_REDEEM: Final = """
WITH counted AS (UPDATE coupons SET redeemed = redeemed + 1 WHERE id = $2)
INSERT INTO coupon_redemptions (order_id, coupon_id, customer_id, email) VALUES ($1, $2, $3, lower($4))
"""
_GIVE_BACK: Final = """
WITH released AS (
    UPDATE coupon_redemptions SET released_at = now() WHERE order_id = $1 AND released_at IS NULL RETURNING coupon_id)
UPDATE coupons SET redeemed = redeemed - 1 FROM released WHERE id = coupon_id
"""


def coupon(row: Any) -> Coupon | None:
    """A coupon from a row, or from a row as JSON; None from none."""
    if row is None:
        return None
    fields = {name: row[name] for name in Coupon.__slots__}
    fields["kind"] = CouponKind(fields["kind"])
    for name in ("starts_at", "ends_at"):
        if isinstance(fields[name], str):
            fields[name] = datetime.fromisoformat(fields[name])
    return Coupon(**fields)


async def by_code(connection: Connection, code: str) -> Coupon | None:
    """A coupon by its normalised code."""
    return coupon(await connection.fetchrow(f"SELECT {_COLUMNS} FROM coupons WHERE code = $1", code))


async def lock(connection: Connection, coupon_id: str) -> Coupon | None:
    """A coupon; whoever else wants to redeem or change it waits until the transaction ends."""
    return coupon(await connection.fetchrow(f"SELECT {_COLUMNS} FROM coupons WHERE id = $1 FOR UPDATE", coupon_id))


async def used(connection: Connection, coupon_id: str, customer_id: str | None, email: str) -> int:
    """How many live orders of a customer, by account or by address, have redeemed it."""
    return int(await connection.fetchval(_USED, coupon_id, customer_id, email))


async def redeem(connection: Connection, coupon_id: str, order_id: str, customer_id: str | None, email: str) -> None:
    """Counts an order; the caller holds the coupon's lock and has looked."""
    await connection.execute(_REDEEM, order_id, coupon_id, customer_id, email)


async def give_back(connection: Connection, order_id: str) -> None:
    """Takes back what a cancelled order redeemed, once."""
    await connection.execute(_GIVE_BACK, order_id)


async def listed(connection: Connection, after: str | None, limit: int) -> list[Coupon]:
    """Up to `limit` coupons, newest first, from behind the coupon `after`."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM coupons WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2", after, limit
    )
    return [_made(row) for row in rows]


async def insert(connection: Connection, new: Mapping[str, Any]) -> Coupon:
    """A new coupon. Raises asyncpg's `UniqueViolationError` for a code that is taken."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO coupons (code, kind, value, currency, minimum, starts_at, ends_at, total_limit, per_customer_limit)
        VALUES ($1, $2, $3, $4, $5, coalesce($6, now()), $7, $8, $9) RETURNING {_COLUMNS}
        """,
        new["code"],
        new["kind"],
        new["value"],
        new["currency"],
        new["minimum"],
        new["starts_at"],
        new["ends_at"],
        new["total_limit"],
        new["per_customer_limit"],
    )
    return _made(row)


async def change(connection: Connection, coupon_id: str, given: Mapping[str, Any]) -> Coupon:
    """Changes what is given; the caller holds the coupon's lock."""
    row = await connection.fetchrow(
        f"""
        UPDATE coupons
           SET minimum = coalesce($2, minimum), starts_at = coalesce($3, starts_at), ends_at = coalesce($4, ends_at),
               total_limit = coalesce($5, total_limit), per_customer_limit = coalesce($6, per_customer_limit),
               active = coalesce($7, active)
         WHERE id = $1 RETURNING {_COLUMNS}
        """,
        coupon_id,
        given.get("minimum"),
        given.get("starts_at"),
        given.get("ends_at"),
        given.get("total_limit"),
        given.get("per_customer_limit"),
        given.get("active"),
    )
    return _made(row)


async def was_used(connection: Connection, coupon_id: str) -> bool:
    """Whether any order was ever placed with it."""
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT FROM coupon_redemptions WHERE coupon_id = $1)", coupon_id)
    )


async def delete(connection: Connection, coupon_id: str) -> None:
    """Takes it out of the books; the caller holds its lock and has looked."""
    await connection.execute("DELETE FROM coupons WHERE id = $1", coupon_id)


def _made(row: Any) -> Coupon:
    made = coupon(row)
    assert made is not None  # a row of ours
    return made
