"""How often a call goes to the database. Each round trip costs about 0.1 ms of CPU and, across a network, latency."""

from collections.abc import Callable

import httpx
import pytest

from reliability.runtime import Application
from services.catalog.stock.domain import Line
from tests.integration.catalog.support import TTL, Shop, counting, new_key


async def _trips(shop: Shop, lines: list[Line]) -> dict[str, int]:
    key, other = new_key(), new_key()
    ended = await shop.holding(*((line.variant_id, line.quantity) for line in lines))
    await shop.expire(ended)
    trips: dict[str, int] = {}
    for name, call in (
        ("hold", lambda: shop.stock.hold(key, lines, TTL)),
        ("hold again", lambda: shop.stock.hold(key, lines, TTL)),
        ("extend", lambda: shop.stock.extend(key, TTL)),
        ("commit", lambda: shop.stock.commit(key, None)),
        ("commit again", lambda: shop.stock.commit(key, None)),
        ("hold another", lambda: shop.stock.hold(other, lines, TTL)),
        ("release", lambda: shop.stock.release(other)),
        ("release again", lambda: shop.stock.release(other)),
        ("commit an expired one", lambda: shop.stock.commit(ended, None)),
    ):
        async with counting(shop.database) as statements:
            await call()
        if any(query.startswith("BEGIN") for query in statements.queries):
            assert statements.queries[-1] == "COMMIT"
        trips[name] = len(statements.queries)
    return trips


async def test_hold_and_its_endings(shop: Shop) -> None:
    """BEGIN and COMMIT included, however many lines there are."""
    lines = [Line(await shop.variant(1000), 1) for _ in range(20)]
    await _trips(shop, lines)  # a new connection asks for its types first
    assert await _trips(shop, lines) == {
        "hold": 1,
        "hold again": 5,
        "extend": 3,
        "commit": 1,
        "commit again": 4,
        "hold another": 1,
        "release": 4,
        "release again": 3,
        "commit an expired one": 8,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/api/products",
        "/api/products?category=things&in_stock=true&sort=price",
        "/api/products/a-thing",
        "/api/categories",
        "/api/categories/things",
    ],
)
async def test_every_page_is_one_query(
    shop: Shop, client_for: Callable[[Application], httpx.AsyncClient], path: str
) -> None:
    """No N + 1: a page costs one round trip, however much is on it."""
    client = client_for(shop.application)
    await shop.variant(product=await shop.product("a-thing"))
    for number in range(5):
        await shop.variant(product=await shop.product(f"another-{number}"))
    async with counting(shop.database) as statements:
        assert (await client.get(path)).status_code == 200
    assert len(statements.queries) == 1
