"""Every statement on carts."""

import asyncpg

from reliability.postgres import Connection
from services.orders.cart.domain import Cart, CartItem, CatalogEntry, Owner
from services.orders.coupon import repository as coupons

__all__ = [
    "add_item",
    "change_item",
    "clear",
    "close",
    "create",
    "find",
    "lock",
    "merge",
    "remove_item",
    "set_coupon",
    "show_prices",
]

_FIND = """
SELECT c.id::text AS cart_id, i.id::text, i.variant_id::text, i.title, i.quantity, i.unit_price, i.currency,
       to_jsonb(k) AS coupon
  FROM carts c LEFT JOIN cart_items i ON i.cart_id = c.id LEFT JOIN coupons k ON k.id = c.coupon_id
 WHERE {} AND c.state = 'open'
 ORDER BY i.id
"""
_LOCK = "SELECT c.id::text FROM carts c WHERE {} AND c.state = 'open' FOR UPDATE"
_CREATE = """
INSERT INTO carts (customer_id) VALUES ($1)
    ON CONFLICT (customer_id) WHERE state = 'open' DO UPDATE SET updated_at = now()
RETURNING id::text
"""
_ADD = """
INSERT INTO cart_items AS i (cart_id, variant_id, title, quantity, unit_price, currency)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (cart_id, variant_id) DO UPDATE
       SET quantity = i.quantity + excluded.quantity, title = excluded.title,
           unit_price = excluded.unit_price, currency = excluded.currency
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
    rows = await connection.fetch(_FIND.format(condition), parameter)
    if not rows:
        return None
    items = tuple(_item(row) for row in rows if row["id"])
    return Cart(rows[0]["cart_id"], items, coupons.coupon(rows[0]["coupon"]))


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


async def add_item(connection: Connection, cart_id: str, entry: CatalogEntry, quantity: int) -> None:
    """Adds pieces at today's price."""
    await connection.execute(_ADD, cart_id, entry.variant_id, entry.title, quantity, entry.unit_price, entry.currency)
    await connection.execute("UPDATE carts SET updated_at = now() WHERE id = $1", cart_id)


async def change_item(connection: Connection, cart_id: str, item_id: str, quantity: int) -> bool:
    """Sets a line's quantity; False when the cart has no such line."""
    status = await connection.execute(
        "UPDATE cart_items SET quantity = $3 WHERE cart_id = $1 AND id = $2", cart_id, item_id, quantity
    )
    return status == "UPDATE 1"


async def remove_item(connection: Connection, cart_id: str, item_id: str) -> bool:
    """Takes a line out; False when the cart has no such line."""
    return await connection.execute("DELETE FROM cart_items WHERE cart_id = $1 AND id = $2", cart_id, item_id) == (
        "DELETE 1"
    )


async def set_coupon(connection: Connection, cart_id: str, coupon_id: str | None) -> None:
    """Puts a coupon into a cart, or takes it out."""
    await connection.execute("UPDATE carts SET coupon_id = $2, updated_at = now() WHERE id = $1", cart_id, coupon_id)


async def clear(connection: Connection, cart_id: str) -> None:
    """Takes every line out."""
    await connection.execute("DELETE FROM cart_items WHERE cart_id = $1", cart_id)


async def close(connection: Connection, cart_id: str) -> None:
    """Ends a cart whose order was paid: what comes next goes into a new one."""
    await connection.execute("UPDATE carts SET state = 'ordered', updated_at = now() WHERE id = $1", cart_id)


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
