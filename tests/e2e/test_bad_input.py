"""Bad input gets the answer of the contract, and nothing is written."""

import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import httpx
import pytest

from deploy.local.credentials import load_secrets
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import BUYER, Shopper
from deploy.local.system import System

CHECKOUT = {"email": "guest@example.com", **BUYER}


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/api/cart/items", b"{not json", {}, 400, "malformed_json"),
        ("/api/cart/items", b"[]", {}, 422, "validation_failed"),
        ("/api/cart/items", b"[" * 65 + b"]" * 65, {}, 400, "malformed_json"),
        ("/api/cart/items", b'{"a":' * 65 + b"1" + b"}" * 65, {}, 400, "malformed_json"),
        ("/api/cart/items", b"[" * 500_000, {}, 400, "malformed_json"),
        ("/api/cart/items", b"[" * 500_000 + b"]" * 500_000, {}, 400, "malformed_json"),
        ("/api/cart/items", b"[" * 64 + b"]" * 64, {}, 422, "validation_failed"),
        ("/api/cart/items", b'{"quantity": 1}', {}, 422, "validation_failed"),
        ("/api/checkout", json.dumps(CHECKOUT).encode(), {}, 400, "idempotency_key_missing"),
        ("/api/checkout", json.dumps(CHECKOUT).encode(), key(), 409, "cart_empty"),
        ("/api/checkout", b"{}", key(), 422, "validation_failed"),
        ("/api/cart/items", b'{"a": "' + b"x" * 2 * 1024 * 1024 + b'"}', {}, 413, "payload_too_large"),
    ],
)
async def test_a_bad_body_is_refused(
    shopper: Shopper,
    observer: Observer,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """Each gets its own code as problem+json, with the correlation id, and leaves no row."""
    before = await _count(observer)
    answer = await shopper.http.post(path, content=body, headers={"Content-Type": "application/json", **headers})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert problem["correlation_id"] == answer.headers["x-correlation-id"] == shopper.correlation_id
    assert await _count(observer) == before


@pytest.mark.parametrize(
    ("body", "status"), [(b"[" * 65 + b"]" * 65, 400), (b"[" * 500_000, 400), (b" " * 1_048_577, 413)]
)
async def test_a_service_needs_no_gateway_to_refuse_it(system: System, body: bytes, status: int) -> None:
    """Depth and size are limited where they would hurt, whoever sends them there."""
    headers = {"Content-Type": "application/json"}
    for service in ("orders", "accounts"):
        path = "/api/cart/items" if service == "orders" else "/api/auth/login"
        async with httpx.AsyncClient(base_url=system.endpoints.services[service]["http"]) as http:
            assert (await http.post(path, content=body, headers=headers)).status_code == status


@pytest.mark.parametrize("quantity", [0, -1, 10**9, 10**30, 1.5, "1", None, True])
async def test_an_impossible_quantity_is_refused(shopper: Shopper, observer: Observer, quantity: Any) -> None:
    """Only whole numbers from 1 to 100."""
    chosen = await shopper.choose()
    before = await _count(observer)
    answer = await shopper.add(chosen["variant"]["id"], quantity)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/quantity"
    assert await _count(observer) == before


async def test_an_unknown_product_is_refused(shopper: Shopper, observer: Observer) -> None:
    """By slug 404; as a variant in the cart 422 with its pointer."""
    before = await _count(observer)
    assert (await shopper.http.get("/api/products/no-such-thing")).status_code == 404
    answer = await shopper.add(str(uuid.uuid4()), 1)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_variant")
    assert await _count(observer) == before


async def test_an_unbuilt_route_and_a_wrong_method(shopper: Shopper) -> None:
    """A route that is not built is 404; a path with another method is 405 and names those it has."""
    for path in ("/api/nothing", "/api/graphql", "/api/cache/stats", "/api/admin/nothing"):
        assert (await shopper.http.get(path)).status_code == 404
    answer = await shopper.http.put("/api/checkout")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("age", "secret", "code"),
    [(0, "whsec_wrong", "invalid_signature"), (3600, None, "stale_signature"), (-3600, None, "stale_signature")],
)
async def test_a_bad_webhook_signature_is_refused(
    system: System, shopper: Shopper, observer: Observer, age: int, secret: str | None, code: str
) -> None:
    """A wrong secret, an old event replayed, an event from the future: 400, and it is not in the inbox."""
    event = f"evt_{uuid.uuid4().hex}"
    body = json.dumps({"id": event, "type": "x", "data": {"object": {"id": "pi_1"}}}).encode()
    stamp = int(time.time()) - age
    used = secret or load_secrets(system.state).stripe_webhook_secret
    signature = hmac.new(used.encode(), b"%d.%s" % (stamp, body), hashlib.sha256).hexdigest()
    answer = await shopper.http.post(
        "/api/stripe/webhook", content=body, headers={"Stripe-Signature": f"t={stamp},v1={signature}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    stored = "SELECT count(*) FROM inbox WHERE event_id = $1"
    assert await observer.value("payments-webhooks", stored, event) == 0


async def _count(observer: Observer) -> tuple[int, ...]:
    """Rows of every table a customer's request could write to."""
    tables = ("carts", "cart_items", "orders", "order_lines", "idempotency_keys")
    return tuple([await observer.value("orders", f"SELECT count(*) FROM {table}") for table in tables])
