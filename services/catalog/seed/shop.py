"""Reads the shop's text file: a line for a category, a product or a variant, told apart by its first letter."""

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["SeedCategory", "SeedProduct", "SeedVariant", "read"]

_FILE = Path(__file__).parent / "shop.txt"


@dataclass(frozen=True, slots=True)
class SeedCategory:
    """A category; `parent` is a slug."""

    slug: str
    parent: str | None
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class SeedVariant:
    """Price in minor units."""

    sku: str
    title: str
    price: int
    on_hand: int


@dataclass(frozen=True, slots=True)
class SeedProduct:
    """A product with its variants, in US dollars."""

    slug: str
    category: str
    title: str
    description: str
    variants: tuple[SeedVariant, ...]


def slug_of(title: str) -> str:
    """ASCII lower case with hyphens."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def read(path: Path = _FILE) -> tuple[list[SeedCategory], list[SeedProduct]]:
    """Categories, parents first, and products."""
    categories: list[SeedCategory] = []
    products: list[SeedProduct] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        first, *fields = (part.strip() for part in rest.split("|"))
        match kind:
            case "C":
                slug, _, parent = (part.strip() for part in first.partition(">"))
                title, description = fields
                categories.append(SeedCategory(slug, parent or None, title, description))
            case "P":
                title, description = fields
                products.append(SeedProduct(slug_of(title), first, title, description, ()))
            case "V":
                product = products.pop()
                price, on_hand = map(int, fields)
                sku = f"{product.slug}-{slug_of(first)}".upper()
                variant = SeedVariant(sku, first, price, on_hand)
                products.append(replace(product, variants=(*product.variants, variant)))
            case _:
                continue
    return categories, products
