"""Every statement that reads products and categories."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from reliability.postgres import Connection
from services.catalog.products.domain import (
    CategoryRow,
    Position,
    Price,
    Product,
    ProductCard,
    ProductFilter,
    Sort,
    Variant,
    VariantOffer,
)

__all__ = ["categories", "list_products", "product", "variant_offers"]

# A product without variants has no price and is in no list: HAVING drops its row.
_OFFER: Final = """
CROSS JOIN LATERAL (SELECT min(price) AS price, bool_or(on_hand > held) AS in_stock
                      FROM variants WHERE product_id = p.id HAVING count(*) > 0) AS offer
"""
_CARD: Final = "p.id, p.slug, p.title, p.currency, p.image_url, c.slug AS category, offer.price, offer.in_stock"
_IN_CATEGORY: Final = """
p.category_id IN (
    WITH RECURSIVE subtree AS (
        SELECT id FROM categories WHERE slug = {}
         UNION SELECT child.id FROM categories AS child JOIN subtree ON child.parent_id = subtree.id)
    SELECT id FROM subtree)
"""
# Ids are UUIDv7 and so sort by birth: the newest need no other key.
_KEYS: Final = {
    Sort.NEWEST: "NULL",
    Sort.PRICE: "offer.price",
    Sort.PRICE_DOWN: "offer.price",
    Sort.TITLE: "lower(p.title)",
    Sort.TITLE_DOWN: "lower(p.title)",
}
_DOWN: Final = frozenset({Sort.NEWEST, Sort.PRICE_DOWN, Sort.TITLE_DOWN})

_PRODUCT: Final = f"""
SELECT {_CARD}, p.description, v.id AS variant_id, v.sku, v.title AS variant_title, v.price AS variant_price,
       v.on_hand - v.held AS available
  FROM products AS p JOIN categories AS c ON c.id = p.category_id {_OFFER} JOIN variants AS v ON v.product_id = p.id
 WHERE p.slug = $1
 ORDER BY v.position, v.sku
"""
_OFFERS: Final = """
SELECT v.id, v.sku, v.product_id, p.title || ', ' || v.title AS title, v.price, p.currency,
       v.on_hand - v.held AS available, c.slug AS category
  FROM variants AS v JOIN products AS p ON p.id = v.product_id JOIN categories AS c ON c.id = p.category_id
 WHERE v.id = ANY($1::uuid[])
"""
_CATEGORIES: Final = """
SELECT c.id, c.slug, c.title, c.description, c.parent_id,
       (SELECT count(*) FROM products AS p
         WHERE p.category_id = c.id AND EXISTS (SELECT FROM variants WHERE product_id = p.id)) AS products
  FROM categories AS c ORDER BY c.position, c.slug
"""


class _Query:
    """Conditions with their arguments; every value travels as a parameter."""

    def __init__(self) -> None:
        self.arguments: list[object] = []
        self._conditions: list[str] = ["true"]

    def bind(self, value: object) -> str:
        """The placeholder of a value."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def where(self, condition: str, value: object) -> None:
        """Adds a condition with one `{}` for its value; `None` adds nothing."""
        if value is not None:
            self._conditions.append(condition.format(self.bind(value)))

    def after(self, sort: Sort, position: Position | None) -> None:
        """Continues behind a position."""
        if position is None:
            return
        than = "<" if sort in _DOWN else ">"
        if position.key is None:
            self._conditions.append(f"p.id {than} {self.bind(position.id)}")
        else:
            here = f"({self.bind(position.key)}, {self.bind(position.id)})"
            self._conditions.append(f"({_KEYS[sort]}, p.id) {than} {here}")

    @property
    def conditions(self) -> str:
        """All of them in one expression."""
        return " AND ".join(self._conditions)


def _ordering(sort: Sort) -> str:
    keys = ("p.id",) if sort is Sort.NEWEST else (_KEYS[sort], "p.id")
    return ", ".join(f"{key} DESC" if sort in _DOWN else key for key in keys)


async def list_products(
    connection: Connection, wanted: ProductFilter, sort: Sort, after: Position | None, limit: int
) -> list[tuple[ProductCard, Position]]:
    """Up to `limit` products behind `after`, each with its own position. One statement."""
    query = _Query()
    query.where(_IN_CATEGORY, wanted.category)
    query.where("offer.price >= {}", wanted.min_price)
    query.where("offer.price <= {}", wanted.max_price)
    query.where("offer.in_stock = {}", wanted.in_stock)
    query.after(sort, after)
    rows = await connection.fetch(
        f"SELECT {_CARD}, {_KEYS[sort]} AS sort_key FROM products AS p JOIN categories AS c ON c.id = p.category_id "
        f"{_OFFER} WHERE {query.conditions} ORDER BY {_ordering(sort)} LIMIT {query.bind(limit)}",
        *query.arguments,
    )
    return [(_card(row), Position(row["sort_key"], row["id"])) for row in rows]


async def product(connection: Connection, slug: str) -> Product | None:
    """A product with its variants. One statement."""
    rows = await connection.fetch(_PRODUCT, slug)
    if not rows:
        return None
    variants = tuple(
        Variant(
            row["variant_id"],
            row["sku"],
            row["variant_title"],
            Price(row["variant_price"], row["currency"]),
            row["available"],
        )
        for row in rows
    )
    return Product(_card(rows[0]), rows[0]["description"], variants)


async def variant_offers(connection: Connection, ids: Sequence[UUID]) -> list[VariantOffer]:
    """Those of the variants that exist."""
    return [
        VariantOffer(
            row["id"],
            row["sku"],
            row["product_id"],
            row["title"],
            Price(row["price"], row["currency"]),
            row["available"],
            row["category"],
        )
        for row in await connection.fetch(_OFFERS, list(ids))
    ]


async def categories(connection: Connection) -> list[CategoryRow]:
    """All of them: a shop has dozens, and the tree is drawn from the whole."""
    return [
        CategoryRow(row["id"], row["slug"], row["title"], row["description"], row["parent_id"], row["products"])
        for row in await connection.fetch(_CATEGORIES)
    ]


def _card(row: "asyncpg.Record") -> ProductCard:
    return ProductCard(
        id=row["id"],
        slug=row["slug"],
        title=row["title"],
        price=Price(row["price"], row["currency"]),
        in_stock=row["in_stock"],
        image_url=row["image_url"],
        category=row["category"],
    )
