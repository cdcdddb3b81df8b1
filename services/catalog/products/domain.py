"""Products, variants and the tree of categories."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

SLUG: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Sort(StrEnum):
    """Orders a list of products can have; a leading minus turns it round."""

    NEWEST = "newest"
    PRICE = "price"
    PRICE_DOWN = "-price"
    TITLE = "title"
    TITLE_DOWN = "-title"


@dataclass(frozen=True, slots=True)
class Price:
    """Minor units of a currency."""

    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a sorted list: the sort's own key, when it has one, and the id that breaks ties."""

    key: int | str | None
    id: UUID


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """Which products to list; `None` means any. Prices are in minor units and inclusive."""

    category: str | None = None
    min_price: int | None = None
    max_price: int | None = None
    in_stock: bool | None = None


@dataclass(frozen=True, slots=True)
class ProductCard:
    """A product in a list. `price` is that of its cheapest variant."""

    id: UUID
    slug: str
    title: str
    price: Price
    in_stock: bool
    image_url: str | None
    category: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that can be bought."""

    id: UUID
    sku: str
    title: str
    price: Price
    available: int


@dataclass(frozen=True, slots=True)
class Product:
    """A product on its own page."""

    card: ProductCard
    description: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class VariantOffer:
    """What a cart needs to know of a variant."""

    id: UUID
    sku: str
    product_id: UUID
    title: str
    price: Price
    available: int
    category: str


@dataclass(frozen=True, slots=True)
class ProductPage:
    """One page of a list, and where the next one starts."""

    items: tuple[ProductCard, ...]
    next: Position | None


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """A category as it is stored; `products` counts its own, not those of its children."""

    id: UUID
    slug: str
    title: str
    description: str
    parent_id: UUID | None
    products: int


@dataclass(frozen=True, slots=True)
class Category:
    """A category in the tree; `products` counts those of its children too."""

    id: UUID
    slug: str
    title: str
    description: str
    products: int
    children: tuple["Category", ...]


def tree(rows: Iterable[CategoryRow]) -> tuple[Category, ...]:
    """The top categories with everything below them, siblings in the order of `rows`."""
    below: dict[UUID | None, list[CategoryRow]] = {}
    for row in rows:
        below.setdefault(row.parent_id, []).append(row)

    def grow(parent: UUID | None) -> tuple[Category, ...]:
        return tuple(join(row, grow(row.id)) for row in below.get(parent, ()))

    def join(row: CategoryRow, children: tuple[Category, ...]) -> Category:
        products = row.products + sum(child.products for child in children)
        return Category(row.id, row.slug, row.title, row.description, products, children)

    return grow(None)


def trail(roots: Iterable[Category], slug: str) -> tuple[Category, ...]:
    """The way from a top category down to `slug`, both included; empty when there is no such category."""
    for category in roots:
        if category.slug == slug:
            return (category,)
        if found := trail(category.children, slug):
            return (category, *found)
    return ()
