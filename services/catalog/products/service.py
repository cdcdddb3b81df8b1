"""What can be asked about products."""

from collections.abc import Sequence
from uuid import UUID

from reliability.errors import NotFound
from reliability.postgres import Database
from services.catalog.products import repository
from services.catalog.products.domain import (
    SLUG,
    Category,
    Position,
    Product,
    ProductFilter,
    ProductPage,
    Sort,
    VariantOffer,
    trail,
    tree,
)

__all__ = ["ProductService"]


class ProductService:
    """Reads only, each in one statement, which sees one instant without a transaction around it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_products(self, wanted: ProductFilter, sort: Sort, after: Position | None, limit: int) -> ProductPage:
        """One page of at most `limit` products."""
        async with self._database.connection() as connection:
            # One more than asked for tells whether there is a next page.
            found = await repository.list_products(connection, wanted, sort, after, limit + 1)
        page = found[:limit]
        return ProductPage(tuple(card for card, _ in page), page[-1][1] if len(found) > limit else None)

    async def product(self, slug: str) -> Product:
        """A product with its variants. Raises `NotFound`."""
        found = None
        if SLUG.fullmatch(slug):  # anything else, a NUL for one, is no text the database could compare
            async with self._database.connection() as connection:
                found = await repository.product(connection, slug)
        if found is None:
            message = "There is no such product."
            raise NotFound(message)
        return found

    async def categories(self) -> tuple[Category, ...]:
        """The whole tree."""
        async with self._database.connection() as connection:
            return tree(await repository.categories(connection))

    async def category(self, slug: str) -> tuple[Category, ...]:
        """A category, last, behind the categories above it. Raises `NotFound`."""
        found = trail(await self.categories(), slug)
        if not found:
            message = "There is no such category."
            raise NotFound(message)
        return found

    async def variant_offers(self, ids: Sequence[UUID]) -> list[VariantOffer]:
        """Price and availability of those variants that exist."""
        async with self._database.connection() as connection:
            return await repository.variant_offers(connection, ids)
