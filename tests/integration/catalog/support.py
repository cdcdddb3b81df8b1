"""A shop to test in."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from reliability.ids import new_id
from reliability.postgres import Connection, Database
from reliability.runtime import Application, Runtime
from services.catalog.products.service import ProductService
from services.catalog.settings import CatalogSettings
from services.catalog.stock.domain import HoldKey, Line
from services.catalog.stock.service import StockService

TTL = timedelta(minutes=15)

_DRIFT = """
SELECT sku, held, promised FROM variants
  JOIN LATERAL (SELECT coalesce(sum(quantity), 0) AS promised
                  FROM hold_lines JOIN holds USING (order_id, attempt)
                 WHERE variant_id = variants.id AND state = 'held') AS live ON true
 WHERE held <> promised OR held < 0 OR on_hand < held
"""
_UNSOLD = """
SELECT count(*) FROM holds JOIN hold_lines USING (order_id, attempt)
  LEFT JOIN sales USING (order_id, variant_id)
 WHERE state = 'committed' AND sales.quantity IS DISTINCT FROM hold_lines.quantity
"""
_SALES_WITHOUT_COMMIT = """
SELECT count(*) FROM sales WHERE NOT EXISTS (
    SELECT FROM holds WHERE holds.order_id = sales.order_id AND state = 'committed')
"""


def new_key(attempt: int = 1) -> HoldKey:
    """A hold nobody has heard of."""
    return HoldKey(UUID(new_id()), attempt)


@dataclass(frozen=True)
class Shop:
    """The catalog service on a database of its own, with what a test puts into it."""

    runtime: Runtime[CatalogSettings]
    application: Application
    products: ProductService
    stock: StockService

    @property
    def database(self) -> Database:
        return self.runtime.database

    async def category(self, slug: str, *, parent: UUID | None = None, position: int = 0) -> UUID:
        async with self.database.connection() as connection:
            found = await connection.fetchval(
                "INSERT INTO categories (slug, title, description, parent_id, position) VALUES ($1, $2, '', $3, $4) "
                "ON CONFLICT (slug) DO UPDATE SET title = excluded.title RETURNING id",
                slug,
                slug.replace("-", " ").title(),
                parent,
                position,
            )
        return cast("UUID", found)

    async def product(self, slug: str, *, title: str = "", category: str = "things") -> UUID:
        category_id = await self.category(category)
        async with self.database.connection() as connection:
            found = await connection.fetchval(
                "INSERT INTO products (slug, category_id, title, description, currency) "
                "VALUES ($1, $2, $3, 'A thing.', 'USD') RETURNING id",
                slug,
                category_id,
                title or slug,
            )
        return cast("UUID", found)

    async def variant(
        self, on_hand: int = 10, *, price: int = 1000, sku: str = "", product: UUID | None = None
    ) -> UUID:
        product = product or await self.product(f"product-{uuid.uuid4().hex}")
        async with self.database.connection() as connection:
            found = await connection.fetchval(
                "INSERT INTO variants (product_id, sku, title, position, price, on_hand) "
                "VALUES ($1, $2, 'One size', 0, $3, $4) RETURNING id",
                product,
                sku or uuid.uuid4().hex,
                price,
                on_hand,
            )
        return cast("UUID", found)

    async def counts(self, variant: UUID) -> tuple[int, int]:
        """Pieces on hand, pieces held."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow("SELECT on_hand, held FROM variants WHERE id = $1", variant)
        assert row is not None
        return row["on_hand"], row["held"]

    async def state(self, key: HoldKey) -> str | None:
        """The state of a hold, None when there is no such hold."""
        async with self.database.connection() as connection:
            return cast(
                "str | None",
                await connection.fetchval(
                    "SELECT state FROM holds WHERE order_id = $1 AND attempt = $2", key.order_id, key.attempt
                ),
            )

    async def age(self, key: HoldKey, by: timedelta) -> None:
        """Lets time pass for one hold."""
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE holds SET expires_at = expires_at - $3::interval WHERE order_id = $1 AND attempt = $2",
                key.order_id,
                key.attempt,
                by,
            )

    async def expire(self, key: HoldKey) -> None:
        """Lets the backstop end one hold, if it is live."""
        await self.age(key, timedelta(days=1))
        await self.stock.release_expired(timedelta(hours=1))

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, *arguments))

    async def holding(self, *lines: tuple[UUID, int], attempt: int = 1) -> HoldKey:
        """A live hold of a new order."""
        key = new_key(attempt)
        await self.stock.hold(key, [Line(variant, quantity) for variant, quantity in lines], TTL)
        return key

    async def assert_books_balance(self) -> None:
        """Over the whole database: what is held is what live holds promise, and what is committed is sold, once."""
        assert await self.fetch(_DRIFT) == []
        assert [row["count"] for row in await self.fetch(_UNSOLD)] == [0]
        assert [row["count"] for row in await self.fetch(_SALES_WITHOUT_COMMIT)] == [0]


@dataclass
class Statements:
    """What went over a database's connections."""

    queries: list[str] = field(default_factory=list)

    def note(self, record: Any) -> None:
        self.queries.append(record.query)


@asynccontextmanager
async def counting(database: Database) -> AsyncIterator[Statements]:
    """Notes each statement the database's transactions and connections send; one statement is one round trip."""
    statements = Statements()
    original: Callable[[], Any] = database.connection

    @asynccontextmanager
    async def observed() -> AsyncIterator[Connection]:
        async with original() as connection:
            connection.add_query_logger(statements.note)
            try:
                yield connection
            finally:
                await asyncio.sleep(0)  # asyncpg tells its loggers in the loop's next round
                connection.remove_query_logger(statements.note)

    database.connection = observed  # type: ignore[method-assign]
    try:
        yield statements
    finally:
        del database.connection
