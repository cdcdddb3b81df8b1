"""python -m services.catalog.seed: fills the shop. Running it again changes texts and prices, never stock."""

import asyncio

from pydantic import PostgresDsn
from pydantic_settings import BaseSettings, SettingsConfigDict

from reliability.postgres import Connection, Database
from reliability.settings import load
from services.catalog.seed.shop import SeedCategory, SeedProduct, read

_CATEGORY = """
INSERT INTO categories AS c (slug, title, description, parent_id, position)
VALUES ($1, $2, $3, (SELECT id FROM categories WHERE slug = $4), $5)
    ON CONFLICT (slug) DO UPDATE SET title = excluded.title, description = excluded.description
"""
_PRODUCT = """
INSERT INTO products (slug, category_id, title, description, currency)
VALUES ($1, (SELECT id FROM categories WHERE slug = $2), $3, $4, 'USD')
    ON CONFLICT (slug) DO UPDATE SET title = excluded.title, description = excluded.description
RETURNING id
"""
# What is on hand belongs to the warehouse once the variant is there.
_VARIANT = """
INSERT INTO variants (product_id, sku, title, position, price, on_hand) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (sku) DO UPDATE SET title = excluded.title, price = excluded.price
"""


class _SeedSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore")

    database_url: PostgresDsn


async def _categories(connection: Connection, categories: list[SeedCategory]) -> None:
    for position, each in enumerate(categories):
        await connection.execute(_CATEGORY, each.slug, each.title, each.description, each.parent, position)


async def _products(connection: Connection, products: list[SeedProduct]) -> None:
    for product in products:
        product_id = await connection.fetchval(
            _PRODUCT, product.slug, product.category, product.title, product.description
        )
        await connection.executemany(
            _VARIANT,
            [
                (product_id, each.sku, each.title, position, each.price, each.on_hand)
                for position, each in enumerate(product.variants)
            ],
        )


async def seed(url: str) -> str:
    """Writes the shop in one transaction; says what it holds."""
    categories, products = read()
    database = Database(url, size=2, application="seed")
    try:
        async with database.transaction("seed") as connection:
            # One seeder at a time: two would lock the same rows in turn.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('catalog seed'))")
            await _categories(connection, categories)
            await _products(connection, products)
    finally:
        await database.close()
    return f"{len(categories)} categories, {len(products)} products"


def main() -> None:
    """Seeds the database named by DATABASE_URL."""
    print(asyncio.run(seed(str(load(_SeedSettings).database_url))))  # noqa: T201 - a command speaks


if __name__ == "__main__":
    main()
