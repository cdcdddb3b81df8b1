"""Every statement on carts."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from reliability import idempotency
from reliability.idempotency import Claim
from reliability.postgres import Connection
from services.orders.cart.domain import Cart, CartItem, CatalogEntry, Owner
from services.orders.coupon import repository as coupons

__all__ = [
    "Added",
    "LeftCart",
    "add",
    "add_at_once",
    "change_item",
    "clear",
    "create",
    "find",
    "find_unordered",
    "is_left",
    "lock",
    "merge",
    "remove_item",
    "set_coupon",
    "show_prices",
    "take_left",
]

_FIND = """
SELECT c.id::text AS cart_id, c.xmin::text AS version, i.id::text, i.variant_id::text, i.title, i.quantity,
       i.unit_price, i.currency, to_jsonb(k) AS coupon
  FROM carts c LEFT JOIN cart_items i ON i.cart_id = c.id LEFT JOIN coupons k ON k.id = c.coupon_id
 WHERE {} AND c.state = 'open'
 ORDER BY i.id
"""
_UNORDERED = f"""
NOT EXISTS (SELECT FROM orders o WHERE o.cart_id = c.id AND o.status <> 'cancelled') AND NOT {idempotency.used(2)}
"""
_LOCK = "SELECT c.id::text FROM carts c WHERE {} AND c.state = 'open' FOR UPDATE"
_CREATE = """
INSERT INTO carts (customer_id) VALUES ($1)
    ON CONFLICT (customer_id) WHERE state = 'open' DO UPDATE SET updated_at = now()
RETURNING id::text
"""
# A statement names the cart that gets these pieces `cart`.
_ITEM = """
    INSERT INTO cart_items AS i (cart_id, variant_id, title, quantity, unit_price, currency)
    SELECT id, $4, $5, $6, $7, $8 FROM cart
        ON CONFLICT (cart_id, variant_id) DO UPDATE
           SET quantity = i.quantity + excluded.quantity, title = excluded.title,
               unit_price = excluded.unit_price, currency = excluded.currency
"""
# The cart's row is locked by being touched. Nobody can see a new one before it is there with what is in it.
_ADD = f"""
WITH cart AS ({{}}),
item AS ({_ITEM} RETURNING i.id, old.id IS NULL AS fresh)
SELECT cart.id::text AS cart_id, item.id::text, item.fresh FROM cart, item
"""
_ADD_TO_OPEN = _ADD.format("""
    UPDATE carts c SET updated_at = now(), email = coalesce($2, c.email), customer_name = coalesce($3, c.customer_name)
     WHERE {} AND c.state = 'open' RETURNING c.id""")
_ADD_TO_NEW = _ADD.format("""
    INSERT INTO carts (customer_id, email, customer_name) VALUES ($1, $2, $3)
        ON CONFLICT (customer_id) WHERE state = 'open' DO UPDATE SET updated_at = now()
    RETURNING id""")
# The usual way to do that, with the whole cart as it is then: nothing is added where somebody has to look. When others
# have changed the cart while this waited for its row, it is another version, and what was read before does not count.
_ADD_AT_ONCE = f"""
WITH seen AS (
    SELECT c.id, c.xmin AS version, to_jsonb(k) AS coupon FROM carts c LEFT JOIN coupons k ON k.id = c.coupon_id
     WHERE {{}} AND c.state = 'open'),
others AS (SELECT i.* FROM cart_items i JOIN seen ON i.cart_id = seen.id WHERE i.variant_id <> $4),
cart AS (
    UPDATE carts c SET updated_at = now(), email = coalesce($2, c.email), customer_name = coalesce($3, c.customer_name)
      FROM seen
     WHERE c.id = seen.id AND c.state = 'open' AND c.xmin = seen.version
       AND (SELECT count(*) < $9 AND count(*) FILTER (WHERE currency <> $8) = 0 FROM others)
    RETURNING c.id, c.xmin AS version),
item AS ({_ITEM} RETURNING i.*)
SELECT cart.id::text AS cart_id, cart.version::text, i.id::text, i.variant_id::text, i.title, i.quantity, i.unit_price,
       i.currency, seen.coupon
  FROM cart JOIN seen USING (id), (SELECT * FROM item UNION ALL SELECT * FROM others) AS i
 ORDER BY i.id
"""
_SHOW = """
UPDATE cart_items SET unit_price = now.unit_price, currency = now.currency, title = now.title
  FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[]) AS now (variant_id, unit_price, currency, title)
 WHERE cart_id = $1 AND cart_items.variant_id = now.variant_id
   AND (cart_items.unit_price, cart_items.currency, cart_items.title) <> (now.unit_price, now.currency, now.title)
"""


_MERGED = """
WITH guest AS (
    UPDATE carts SET state = 'merged', merged_into = $2, updated_at = now() WHERE id = $1 RETURNING coupon_id)
UPDATE carts SET coupon_id = coalesce(carts.coupon_id, guest.coupon_id), updated_at = now()
  FROM guest WHERE id = $2
"""
_MERGE = """
INSERT INTO cart_items AS i (cart_id, variant_id, title, quantity, unit_price, currency)
SELECT $2, variant_id, title, quantity, unit_price, currency FROM cart_items WHERE cart_id = $1 ORDER BY id
    ON CONFLICT (cart_id, variant_id) DO UPDATE SET quantity = least(i.quantity + excluded.quantity, $3)
"""


_LEFT = """
c.state = 'open' AND EXISTS (SELECT FROM cart_items i WHERE i.cart_id = c.id)
AND NOT EXISTS (SELECT FROM orders o WHERE o.cart_id = c.id AND o.status <> 'cancelled')
"""
_IS_LEFT = f"SELECT EXISTS (SELECT FROM carts c WHERE c.id = $1 AND {_LEFT})"
# Of a guest we know an address only when an order was tried. Younger than four hours is not left yet, older than a
# week is forgotten.
_TAKE_LEFT = f"""
WITH left_behind AS (
    SELECT c.id FROM carts c
     WHERE c.reminded_at IS NULL AND c.updated_at BETWEEN now() - interval '7 days' AND now() - interval '4 hours'
       AND {_LEFT} AND (c.email <> '' OR EXISTS (SELECT FROM orders o WHERE o.cart_id = c.id))
     ORDER BY c.updated_at LIMIT $1 FOR UPDATE OF c SKIP LOCKED),
taken AS (
    UPDATE carts SET reminded_at = now() FROM left_behind WHERE carts.id = left_behind.id
    RETURNING carts.id, carts.email, carts.customer_name)
SELECT taken.id::text, coalesce(nullif(taken.email, ''), tried.email) AS email,
       coalesce(taken.customer_name, tried.name, '') AS name, bag.subtotal, bag.currency, bag.items
  FROM taken
  LEFT JOIN LATERAL (SELECT o.email, o.shipping_address ->> 'name' AS name FROM orders o WHERE o.cart_id = taken.id
                      ORDER BY o.id DESC LIMIT 1) AS tried ON true
 CROSS JOIN LATERAL (
    SELECT sum(i.quantity * i.unit_price)::bigint AS subtotal, min(i.currency) AS currency,
           jsonb_agg(jsonb_build_object(
               'title', i.title, 'quantity', i.quantity,
               'unit_price', jsonb_build_object('amount', i.unit_price, 'currency', i.currency),
               'line_total', jsonb_build_object('amount', i.quantity * i.unit_price, 'currency', i.currency))
               ORDER BY i.id) AS items
      FROM cart_items i WHERE i.cart_id = taken.id) AS bag
"""


@dataclass(frozen=True, slots=True)
class Added:
    """Pieces that were put into a cart; `item` is the whole line when it is `fresh`."""

    cart_id: str
    item: CartItem
    fresh: bool


@dataclass(frozen=True, slots=True)
class LeftCart:
    """A cart somebody left, and where they can be asked about it."""

    id: str
    email: str
    name: str
    subtotal: int
    currency: str
    items: list[dict[str, Any]]


def _item(row: "asyncpg.Record") -> CartItem:
    return CartItem(row["id"], row["variant_id"], row["title"], row["quantity"], row["unit_price"], row["currency"])


def _of(owner: Owner) -> tuple[str, str | None]:
    """The condition on a cart, and its parameter. A guest's cookie opens no cart that became a customer's."""
    if owner.customer_id:
        return "c.customer_id = $1", owner.customer_id
    return "c.id = $1 AND c.customer_id IS NULL", owner.cart_id


async def find(connection: Connection, owner: Owner) -> Cart | None:
    """The open cart of somebody, with its items."""
    condition, parameter = _of(owner)
    return _cart(await connection.fetch(_FIND.format(condition), parameter))


async def find_unordered(connection: Connection, owner: Owner, claim: Claim) -> Cart | None:
    """The open cart of somebody, unless it has an order that is not cancelled, or the claim's key was used before."""
    condition, parameter = _of(owner)
    return _cart(
        await connection.fetch(_FIND.format(f"{condition} AND {_UNORDERED}"), parameter, claim.scope, claim.key)
    )


def _cart(rows: "list[asyncpg.Record]") -> Cart | None:
    if not rows:
        return None
    items = tuple(_item(row) for row in rows if row["id"])
    return Cart(rows[0]["cart_id"], items, coupons.coupon(rows[0]["coupon"]), rows[0]["version"])


async def lock(connection: Connection, owner: Owner) -> Cart | None:
    """The open cart of somebody, with its row locked until the transaction ends."""
    condition, parameter = _of(owner)
    if await connection.fetchval(_LOCK.format(condition), parameter) is None:
        return None
    return await find(connection, owner)


async def create(connection: Connection, customer_id: str | None) -> str:
    """A new empty cart's id; a customer has one at most, and gets that."""
    return str(await connection.fetchval(_CREATE, customer_id))


async def merge(connection: Connection, guest_cart_id: str, cart_id: str, most: int) -> None:
    """Moves a guest's lines into another cart, `most` pieces of one variant at most; the caller holds both locks."""
    await connection.execute(_MERGE, guest_cart_id, cart_id, most)
    await connection.execute(_MERGED, guest_cart_id, cart_id)


async def _touch(connection: Connection, cart_id: str) -> None:
    """What changes a cart's lines changes its row, and so its version."""
    await connection.execute("UPDATE carts SET updated_at = now() WHERE id = $1", cart_id)


async def take_left(connection: Connection, limit: int) -> list[LeftCart]:
    """Marks up to `limit` carts that were left, so that each is reminded of once, and gives them."""
    rows = await connection.fetch(_TAKE_LEFT, limit)
    return [LeftCart(**row) for row in rows]


async def is_left(connection: Connection, cart_id: str) -> bool:
    """Whether there is still something in an open cart that no order waits for."""
    return bool(await connection.fetchval(_IS_LEFT, cart_id))


async def add(connection: Connection, owner: Owner, entry: CatalogEntry, quantity: int) -> Added:
    """Adds pieces at today's price to somebody's open cart, in a new one when there is none; locks it.

    What is known of how its owner can be reached is noted with it.

    Raises asyncpg's `CheckViolationError` for more pieces than a line may have.
    """
    contact = (owner.email or None, owner.name or None)
    what = (entry.variant_id, entry.title, quantity, entry.unit_price, entry.currency)
    row = None
    if owner.scope:
        condition, parameter = _of(owner)
        row = await connection.fetchrow(_ADD_TO_OPEN.format(condition), parameter, *contact, *what)
    if row is None:
        row = await connection.fetchrow(_ADD_TO_NEW, owner.customer_id, *contact, *what)
    assert row is not None  # an upsert has a row
    item = CartItem(row["id"], entry.variant_id, entry.title, quantity, entry.unit_price, entry.currency)
    return Added(row["cart_id"], item, fresh=row["fresh"])


async def add_at_once(
    connection: Connection, owner: Owner, entry: CatalogEntry, quantity: int, most: int
) -> Cart | None:
    """`add` to an open cart that has no more than `most` lines then, all of one currency, in one statement.

    The cart with what was added; None, with nothing changed, when it is not so, or somebody else was at the cart.

    Raises asyncpg's `CheckViolationError` for more pieces than a line may have.
    """
    condition, parameter = _of(owner)
    rows = await connection.fetch(
        _ADD_AT_ONCE.format(condition),
        parameter,
        owner.email or None,
        owner.name or None,
        entry.variant_id,
        entry.title,
        quantity,
        entry.unit_price,
        entry.currency,
        most,
    )
    return _cart(rows)


async def change_item(connection: Connection, cart_id: str, item_id: str, quantity: int) -> bool:
    """Sets a line's quantity; False when the cart has no such line."""
    status = await connection.execute(
        "UPDATE cart_items SET quantity = $3 WHERE cart_id = $1 AND id = $2", cart_id, item_id, quantity
    )
    await _touch(connection, cart_id)
    return status == "UPDATE 1"


async def remove_item(connection: Connection, cart_id: str, item_id: str) -> bool:
    """Takes a line out; False when the cart has no such line."""
    status = await connection.execute("DELETE FROM cart_items WHERE cart_id = $1 AND id = $2", cart_id, item_id)
    await _touch(connection, cart_id)
    return status == "DELETE 1"


async def set_coupon(connection: Connection, cart_id: str, coupon_id: str | None) -> None:
    """Puts a coupon into a cart, or takes it out."""
    await connection.execute("UPDATE carts SET coupon_id = $2, updated_at = now() WHERE id = $1", cart_id, coupon_id)


async def clear(connection: Connection, cart_id: str) -> None:
    """Takes every line out."""
    await connection.execute("DELETE FROM cart_items WHERE cart_id = $1", cart_id)
    await _touch(connection, cart_id)


async def show_prices(connection: Connection, cart_id: str, entries: list[CatalogEntry]) -> None:
    """Records that the customer is being shown these prices."""
    await connection.execute(
        _SHOW,
        cart_id,
        [entry.variant_id for entry in entries],
        [entry.unit_price for entry in entries],
        [entry.currency for entry in entries],
        [entry.title for entry in entries],
    )
