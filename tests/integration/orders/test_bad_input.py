"""Every route of orders, the desk's too, against values nobody means: a clear answer, never an error of ours."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reliability.asgi import Access, Endpoint
from tests.integration.orders.support import ADDRESS, Orders, key

JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    2**64,
    10**400,
    1e308,
    "",
    " ",
    "a\0b",
    "a\nb",
    "\ud7ff\U0010ffff",
    "x" * 20_000,
    "'; DROP TABLE orders; --",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "USD",
    str(uuid.UUID(int=0)),
    [],
    [[]] * 50,
    {},
    {"amount": -(2**63), "currency": "USD"},
    {"amount": 10**13, "currency": "XXX"},
)
BIG = 10**400


def body_of(endpoint: Endpoint, ids: dict[str, str]) -> dict[str, Any]:
    """A body that would pass, as far as the fields' names tell."""
    known: dict[str, Any] = {
        **ids,
        "quantity": 1,
        "code": "NO-SUCH-CODE",
        "email": "robin@example.com",
        "shipping_address": ADDRESS,
        "shipping_method": "standard",
        "starts_at": "2026-12-24T10:00:00Z",
        "reason": "Sorry.",
        "amount": {"amount": 1, "currency": "USD"},
        "kind": "amount",
        "value": 100,
        "currency": "USD",
        "customer_name": "Kim",
    }
    fields = endpoint.body.model_fields if endpoint.body else {}
    return {name: known[name] for name in fields if name in known}


def attempts(endpoint: Endpoint, ids: dict[str, str]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Queries and bodies, each with one value that is junk."""
    for name in endpoint.query.model_fields if endpoint.query else {}:
        for value in JUNK:
            if isinstance(value, str | int | float):
                yield {name: str(value)[:5000]}, None
    if endpoint.body is not None:
        good = body_of(endpoint, ids)
        for name in endpoint.body.model_fields:
            for value in JUNK:
                yield {}, {**good, name: value}
        for value in JUNK:
            yield {}, value


def table(orders: Orders) -> list[tuple[str, Endpoint]]:
    """Orders' own routes and the desk's, as the edge that serves them has them."""
    desk = ("/api/admin/orders", "/api/admin/coupons", "/api/admin/appointments", "/api/admin/availability")
    own = [("orders", each) for each in orders.applications["orders"].endpoints]
    return own + [("admin", each) for each in orders.applications["admin"].endpoints if each.path.startswith(desk)]


def asker(orders: Orders, service: str, endpoint: Endpoint) -> httpx.AsyncClient:
    """Somebody the route lets in, and who owns nothing."""
    if service == "admin":
        return orders.staff()
    return orders.customer("mallory") if endpoint.access is Access.CUSTOMER else orders.guest()


async def test_no_value_breaks_a_route(shop_orders: Orders) -> None:
    """Each field of each route with each junk: never a server error, and every refusal is a problem."""
    checkout = await shop_orders.buy(shop_orders.customer(), await shop_orders.shop.variant(5))
    ids = {
        "variant_id": str(await shop_orders.shop.variant()),
        "service_id": checkout["id"],
        "staff_id": checkout["id"],
    }
    ids |= {"member_id": checkout["id"]}
    tried = 0
    for service, endpoint in table(shop_orders):
        if endpoint.access is Access.SCHEDULER:
            continue
        client = asker(shop_orders, service, endpoint)
        path = endpoint.path.replace("{id}", checkout["id"])
        for query, body in attempts(endpoint, ids):
            try:
                answer = await client.request(endpoint.method, path, params=query, json=body, headers=key())
            except (ValueError, OverflowError):  # a number httpx cannot write
                continue
            tried += 1
            assert answer.status_code < 500, (endpoint.method, path, query, str(body)[:300], answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
    assert tried > 500
    assert await shop_orders.value("SELECT status FROM orders WHERE id = $1", checkout["id"]) in {
        "pending",
        "cancelled",
    }


@pytest.mark.parametrize(
    "identifier", ["theirs", "01980000-0000-7000-8000-000000000001", "nonsense", "x" * 300, "%2e%2e", "0", "-1"]
)
async def test_what_is_not_mine_does_not_exist(shop_orders: Orders, identifier: str) -> None:
    """Every route with an id in its path: somebody else's is 404, as is what nobody has."""
    checkout = await shop_orders.buy(shop_orders.customer(), await shop_orders.shop.variant(5))
    names = {"theirs": checkout["id"]}
    routes = [
        each
        for each in shop_orders.application.endpoints
        if "{id}" in each.path and each.access is not Access.SCHEDULER
    ]
    assert len(routes) >= 7
    for endpoint in routes:
        client = asker(shop_orders, "orders", endpoint)
        body = body_of(endpoint, {}) if endpoint.body else None
        path = endpoint.path.replace("{id}", names.get(identifier, identifier))
        answer = await client.request(endpoint.method, path, json=body, headers=key())
        assert (endpoint.path, answer.status_code) == (endpoint.path, 404), answer.text
    assert await shop_orders.value("SELECT status FROM orders") == "pending"
