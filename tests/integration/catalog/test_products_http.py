"""The public product routes, over HTTP."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from reliability.runtime import Application
from services.catalog.products import cursor
from services.catalog.products.domain import Position, Sort
from tests.integration.catalog.support import Shop

SORTS = [sort.value for sort in Sort]


@pytest_asyncio.fixture(loop_scope="session")
async def client(shop: Shop, client_for: Callable[[Application], httpx.AsyncClient]) -> httpx.AsyncClient:
    """Nobody in particular."""
    return client_for(shop.application)


async def _fill(shop: Shop) -> None:
    """47 products: with equal prices, equal titles, several variants, and one that has none yet."""
    for number in range(47):
        product = await shop.product(
            f"p-{number}", title=f"{'aB'[number % 2]}{number % 5}", category=f"shelf-{number % 3}"
        )
        for extra in range(1 + number % 3):
            await shop.variant(number % 4, price=100 * (number % 6) + 50 * extra, product=product)
    await shop.product("not-for-sale-yet")


async def _walk(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """Every item, page by page."""
    items: list[dict[str, Any]] = []
    for _ in range(100):
        response = await client.get("/api/products", params=query)
        assert response.status_code == 200, response.text
        page = response.json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        assert len(page["items"]) == query.get("limit", 20)
        query["cursor"] = page["next_cursor"]
    pytest.fail("the pages do not end")


def _order(sort: str, item: dict[str, Any]) -> Any:
    key = sort.removeprefix("-")
    return {"newest": item["id"], "price": item["price"]["amount"], "title": item["title"].lower()}[key]


async def test_an_item_has_the_fields_of_the_contract(shop: Shop, client: httpx.AsyncClient) -> None:
    """Exactly these; nothing is made up where nothing is known."""
    product = await shop.product("chew-rope", title="Chew Rope", category="toys")
    await shop.variant(0, price=1299, product=product)
    await shop.variant(2, price=999, product=product)
    body = (await client.get("/api/products")).json()
    assert body == {
        "items": [
            {
                "id": str(product),
                "slug": "chew-rope",
                "title": "Chew Rope",
                "price": {"amount": 999, "currency": "USD"},
                "in_stock": True,
                "rating": None,
                "image_url": None,
                "category": "toys",
            }
        ],
        "next_cursor": None,
    }


async def test_an_empty_shop_is_an_empty_page(client: httpx.AsyncClient) -> None:
    """No products is an answer, not an error."""
    assert (await client.get("/api/products")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_show_every_product_once_and_in_order(
    shop: Shop, client: httpx.AsyncClient, sort: str, limit: int
) -> None:
    """No product is left out or shown twice at the seams, also among equal prices and titles."""
    await _fill(shop)
    items = await _walk(client, sort=sort, limit=limit)
    assert sorted(item["slug"] for item in items) == sorted(f"p-{number}" for number in range(47))
    keys = [_order(sort, item) for item in items]
    assert keys == sorted(keys, reverse=sort.startswith("-") or sort == "newest")


async def test_what_is_added_meanwhile_moves_no_page(shop: Shop, client: httpx.AsyncClient) -> None:
    """A new product at the top shifts an offset, not a cursor."""
    await _fill(shop)
    first = (await client.get("/api/products", params={"limit": 10})).json()
    await shop.variant(product=await shop.product("brand-new"))
    second = (await client.get("/api/products", params={"limit": 10, "cursor": first["next_cursor"]})).json()
    slugs = [item["slug"] for item in first["items"] + second["items"]]
    assert slugs == [f"p-{number}" for number in range(46, 26, -1)]


async def test_filters_narrow_the_list(shop: Shop, client: httpx.AsyncClient) -> None:
    """Each filter alone and all together, on every page of the walk."""
    await _fill(shop)
    everything = await _walk(client)
    cheap = await _walk(client, min_price=100, max_price=300, limit=5)
    assert {item["slug"] for item in cheap} == {
        item["slug"] for item in everything if 100 <= item["price"]["amount"] <= 300
    }
    shelf = await _walk(client, category="shelf-1", limit=4)
    assert {item["category"] for item in shelf} == {"shelf-1"}
    assert len(shelf) == 16
    there, gone = await _walk(client, in_stock="true"), await _walk(client, in_stock="false")
    assert {item["in_stock"] for item in there} == {True}
    assert {item["in_stock"] for item in gone} == {False}
    assert len(there) + len(gone) == 47
    both = await _walk(client, category="shelf-1", in_stock="true", max_price=300, sort="-price", limit=2)
    assert {item["slug"] for item in both} == {
        item["slug"]
        for item in everything
        if item["category"] == "shelf-1" and item["in_stock"] and item["price"]["amount"] <= 300
    }


async def test_held_stock_is_not_in_stock(shop: Shop, client: httpx.AsyncClient) -> None:
    """The last piece is promised to somebody: the shop says so at once, and says it is back when it is."""
    product = await shop.product("last-one")
    variant = await shop.variant(1, product=product)
    key = await shop.holding((variant, 1))
    assert (await client.get("/api/products")).json()["items"][0]["in_stock"] is False
    assert (await client.get("/api/products/last-one")).json()["variants"][0]["available"] == 0
    await shop.stock.release(key)
    assert (await client.get("/api/products")).json()["items"][0]["in_stock"] is True


async def test_a_category_includes_what_is_below_it(shop: Shop, client: httpx.AsyncClient) -> None:
    """Asked for food, the shop shows dog food; an unknown category has nothing in it."""
    food = await shop.category("food")
    await shop.category("dog-food", parent=food)
    await shop.variant(product=await shop.product("kibble", category="dog-food"))
    await shop.variant(product=await shop.product("bowl", category="things"))
    listed = (await client.get("/api/products", params={"category": "food"})).json()["items"]
    assert [item["slug"] for item in listed] == ["kibble"]
    assert (await client.get("/api/products", params={"category": "unheard-of"})).json()["items"] == []


def _forged(asked: str, sort: Sort, key: int | str | None) -> str:
    """A query with a cursor that is well-formed and wrong."""
    return f"sort={asked}&cursor={cursor.encode(sort, Position(key, UUID(int=7)))}"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=101", "/limit"),
        ("limit=1000", "/limit"),
        ("limit=ten", "/limit"),
        ("limit=", "/limit"),
        ("min_price=abc", "/min_price"),
        ("min_price=-1", "/min_price"),
        ("min_price=1.5", "/min_price"),
        (f"max_price={10**30}", "/max_price"),
        ("min_price=200&max_price=100", "/max_price"),
        ("in_stock=perhaps", "/in_stock"),
        ("sort=random", "/sort"),
        ("sort=", "/sort"),
        ("category=Dog%20Food", "/category"),
        ("category=%00", "/category"),
        ("rating=4", "/rating"),
        ("cursor=nonsense", "/cursor"),
        ("cursor=", "/cursor"),
        ("cursor=bnVsbA", "/cursor"),
        ("cursor=%F0%9F%90%95", "/cursor"),
        (_forged("price", Sort.NEWEST, None), "/cursor"),
        (_forged("-price", Sort.PRICE, 100), "/cursor"),
        (_forged("price", Sort.PRICE, 2**63), "/cursor"),
        (_forged("title", Sort.TITLE, "a\0"), "/cursor"),
    ],
)
async def test_a_bad_query_is_refused(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    """422, problem+json, and a pointer to the parameter."""
    response = await client.get(f"/api/products?{query}")
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == "validation_failed"
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert body["correlation_id"] == response.headers["x-correlation-id"]


async def test_a_product_has_its_variants_in_their_order(shop: Shop, client: httpx.AsyncClient) -> None:
    """List fields, description and what can be bought."""
    product = await shop.product("kibble", title="Kibble", category="food")
    small = await shop.variant(5, price=1499, sku="K-4", product=product)
    large = await shop.variant(3, price=4999, sku="K-24", product=product)
    async with shop.database.connection() as connection:
        await connection.execute("UPDATE variants SET position = 1 WHERE id = $1", large)
    await shop.holding((small, 4))
    body = (await client.get("/api/products/kibble")).json()
    assert body == {
        "id": str(product),
        "slug": "kibble",
        "title": "Kibble",
        "price": {"amount": 1499, "currency": "USD"},
        "in_stock": True,
        "rating": None,
        "image_url": None,
        "category": "food",
        "description": "A thing.",
        "variants": [
            {"id": str(small), "sku": "K-4", "title": "One size", "price": _usd(1499), "available": 1},
            {"id": str(large), "sku": "K-24", "title": "One size", "price": _usd(4999), "available": 3},
        ],
    }


def _usd(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


@pytest.mark.parametrize("slug", ["unheard-of", "search", "suggest", "%00", "%FF", "a%20b", "Kibble", "a" * 5000])
async def test_an_unknown_product_is_404(shop: Shop, client: httpx.AsyncClient, slug: str) -> None:
    """Whatever is asked for: also names of routes that are not there yet, and what no text column could hold."""
    await shop.variant(product=await shop.product("kibble"))
    response = await client.get(f"/api/products/{slug}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_product_without_variants_is_not_for_sale(shop: Shop, client: httpx.AsyncClient) -> None:
    """It has no price, so it has no page either."""
    await shop.product("not-for-sale-yet")
    assert (await client.get("/api/products/not-for-sale-yet")).status_code == 404
    assert (await client.get("/api/products")).json()["items"] == []


async def test_the_tree_of_categories(shop: Shop, client: httpx.AsyncClient) -> None:
    """Siblings in the shop's order, and products counted with those below."""
    food = await shop.category("food", position=2)
    await shop.category("cat-food", parent=food, position=2)
    await shop.category("dog-food", parent=food, position=1)
    await shop.category("toys", position=1)
    for number, category in enumerate(["dog-food", "dog-food", "cat-food", "food", "toys"]):
        await shop.variant(product=await shop.product(f"p-{number}", category=category))
    body = (await client.get("/api/categories")).json()
    assert body["next_cursor"] is None
    assert [(node["slug"], node["product_count"]) for node in body["items"]] == [("toys", 1), ("food", 4)]
    below = body["items"][1]["children"]
    assert [(node["slug"], node["product_count"]) for node in below] == [("dog-food", 2), ("cat-food", 1)]
    assert set(below[0]) == {"id", "slug", "title", "description", "product_count", "children"}


async def test_a_category_knows_its_place(shop: Shop, client: httpx.AsyncClient) -> None:
    """The way from the top leads to it, and its children hang below."""
    food = await shop.category("food")
    dogs = await shop.category("dog-food", parent=food)
    await shop.category("puppy-food", parent=dogs)
    body = (await client.get("/api/categories/dog-food")).json()
    assert body["path"] == [{"id": str(food), "slug": "food", "title": "Food"}]
    assert [child["slug"] for child in body["children"]] == ["puppy-food"]
    assert (body["id"], body["title"], body["product_count"]) == (str(dogs), "Dog Food", 0)
    assert (await client.get("/api/categories/food")).json()["path"] == []


@pytest.mark.parametrize("slug", ["unheard-of", "%00", "Food"])
async def test_an_unknown_category_is_404(client: httpx.AsyncClient, slug: str) -> None:
    """As any other thing that is not there."""
    response = await client.get(f"/api/categories/{slug}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/api/products", "/api/products/kibble", "/api/categories", "/api/categories/food"])
async def test_reading_is_all_there_is(client: httpx.AsyncClient, path: str) -> None:
    """Other methods are told which there are."""
    response = await client.post(path, json={})
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/api/products/x/reviews", "/api/products/x/related", "/api/graphql", "/api/cache/stats"]
)
async def test_what_is_not_built_is_404(client: httpx.AsyncClient, path: str) -> None:
    """No fakes."""
    assert (await client.get(path)).status_code == 404


async def test_a_gone_database_is_503(shop: Shop, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once and with Retry-After, not with a hang or a 500."""
    monkeypatch.setattr(shop.database, "_url", "postgresql://127.0.0.1:1/nowhere")
    response = await client.get("/api/products")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["retry-after"] == "1"
