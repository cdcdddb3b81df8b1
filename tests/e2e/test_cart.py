"""A guest's cart, and what a guest can book: every route of them."""

import uuid
from typing import Any

from deploy.local.demo.shopper import Shopper
from deploy.local.system import System


async def _variants(shopper: Shopper, count: int) -> list[str]:
    """Variants in stock, of different products."""
    page = (await shopper.http.get("/api/products", params={"in_stock": "true", "limit": "20"})).json()
    found = []
    for item in page["items"]:
        product = (await shopper.http.get(f"/api/products/{item['slug']}")).json()
        found += [variant["id"] for variant in product["variants"] if variant["available"] >= 5][:1]
        if len(found) == count:
            break
    return found


def _pieces(cart: dict[str, Any]) -> dict[str, int]:
    assert cart["subtotal"]["amount"] == sum(item["line_total"]["amount"] for item in cart["items"])
    return {item["variant_id"]: item["quantity"] for item in cart["items"]}


async def test_a_cart_from_the_first_piece_to_the_last(shopper: Shopper) -> None:
    """Add, add again, change, take out, empty: the cart and its subtotal follow, and the empty cart stays the same."""
    first, second = await _variants(shopper, 2)
    await shopper.add(first, 1)
    await shopper.add(second, 2)
    cart = (await shopper.add(first, 2)).json()
    assert _pieces(cart) == {first: 3, second: 2}
    lines = {item["variant_id"]: f"/api/cart/items/{item['id']}" for item in cart["items"]}

    changed = await shopper.http.patch(lines[first], json={"quantity": 1})
    assert (changed.status_code, _pieces(changed.json())) == (200, {first: 1, second: 2})
    removed = await shopper.http.delete(lines[second])
    assert (removed.status_code, _pieces(removed.json())) == (200, {first: 1})
    for answer in (
        await shopper.http.delete(lines[second]),
        await shopper.http.patch(lines[second], json={"quantity": 1}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await shopper.http.delete("/api/cart")).status_code == 204
    empty = (await shopper.http.get("/api/cart")).json()
    assert (empty["id"], _pieces(empty)) == (cart["id"], {})


async def test_a_keyed_add_happens_once_and_brings_its_cookie_again(shopper: Shopper) -> None:
    """A guest whose first answer was lost repeats it: one piece, and the cookie that leads to it."""
    (variant,) = await _variants(shopper, 1)
    body, key = {"variant_id": variant, "quantity": 1}, {"Idempotency-Key": str(uuid.uuid4())}
    first = await shopper.http.post("/api/cart/items", json=body, headers=key)
    shopper.http.cookies.clear()
    again = await shopper.http.post("/api/cart/items", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotent-replayed"] == "true"
    assert _pieces((await shopper.http.get("/api/cart")).json()) == {variant: 1}


async def test_nobody_reaches_somebody_elses_cart(system: System, shopper: Shopper) -> None:
    """Another's line is 404, a tampered cookie is no cart, and another site's form is refused."""
    (variant,) = await _variants(shopper, 1)
    line = f"/api/cart/items/{(await shopper.add(variant, 1)).json()['items'][0]['id']}"
    other = Shopper(system.endpoints)
    try:
        await other.add(variant, 1)
        assert (await other.http.patch(line, json={"quantity": 9})).status_code == 404
        assert (await other.http.delete(line)).status_code == 404
    finally:
        await other.close()
    foreign = await shopper.http.delete("/api/cart", headers={"Origin": "https://elsewhere.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "permission_denied")
    (name, value), *_ = shopper.http.cookies.items()
    assert _pieces((await shopper.http.get("/api/cart")).json()) == {variant: 1}
    shopper.http.cookies.clear()
    tampered = {"Cookie": f"{name}={value[:-1]}{'a' if value[-1] != 'a' else 'b'}"}
    assert (await shopper.http.get("/api/cart", headers=tampered)).json()["id"] is None


async def test_there_is_something_to_book(shopper: Shopper) -> None:
    """Five services with a duration and a price."""
    answer = await shopper.http.get("/api/appointments/services")
    services = answer.json()["items"]
    assert (answer.status_code, len(services)) == (200, 5)
    assert all(service["duration_minutes"] > 0 and service["price"]["amount"] > 0 for service in services)
    assert len({service["slug"] for service in services}) == 5
