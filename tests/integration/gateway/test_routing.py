"""Which path leads where, which leads nowhere, and that gateway and service read it the same way."""

import pytest

from tests.integration.gateway.support import LIMIT, Gateway, assert_problem

OWNERS = {
    "accounts": [
        "/api/auth/signup",
        "/api/auth/password/forgot",
        "/api/auth/oauth/acme/callback?code=1&state=2",
        "/api/auth/sessions/1",
        "/api/me",
        "/api/me/export",
        "/api/me/addresses/1/default",
        "/.well-known/jwks.json",
    ],
    "catalog": [
        "/api/products",
        "/api/products?category=dogs",
        "/api/products/search",
        "/api/products/1/reviews",
        "/api/products/1/waitlist",
        "/api/categories/cats",
        "/api/reviews/1",
        "/api/me/reviews",
        "/api/me/waitlist",
        "/api/embeddings",
        "/api/cache/stats",
        "/api/graphql",
        "/api/cron/waitlist-notifications",
    ],
    "orders": [
        "/api/cart",
        "/api/cart/items/1",
        "/api/checkout",
        "/api/checkout/1/cancel",
        "/api/me/orders",
        "/api/me/orders/1/reorder",
        "/api/me/spending",
        "/api/me/appointments/1/reschedule",
        "/api/appointments/slots",
        "/api/appointments",
        "/api/cron/appointment-reminders",
        "/api/cron/abandoned-carts",
        "/api/cron/release-expired-holds",
    ],
    "payments-webhooks": [
        "/api/stripe/webhook",
        "/api/payments/intents/1",
        "/api/payments/subscriptions/1/resume",
        "/api/payments/methods/1",
        "/api/cron/reconcile-payments",
    ],
    "notifications": [
        "/api/me/preferences",
        "/api/unsubscribe/abc",
        "/api/email/webhook",
        "/api/cron/retry-failed-emails",
    ],
    "admin": [
        "/api/admin/dashboard",
        "/api/admin/email-campaigns/send",
        "/api/admin/traces/1",
        "/api/health",
        "/api/openapi.json",
        "/api/docs",
        "/api/cron/purge-expired",
    ],
}
NOWHERE = [
    "/",
    "/api",
    "/api/cartfoo",
    "/api/mefoo",
    "/api/cron/unknown",
    "/api/stripe",
    "/livez",
    "/readyz",
    "/metrics",
    "/v1/traces",
    "/api/cart/../../metrics",
]


@pytest.mark.parametrize(
    ("service", "path"), [(service, path) for service, paths in OWNERS.items() for path in paths], ids=str
)
async def test_each_path_goes_to_its_owner(gateway: Gateway, service: str, path: str) -> None:
    """One service answers, the one that owns the path, whatever the method; it sees path and query unchanged."""
    for method in ("GET", "POST", "DELETE"):
        answer = await gateway.client.request(method, path)
        assert (answer.status_code, answer.json()["service"]) == (200, service)
    seen = [request.target for upstream in gateway.upstreams.values() for request in upstream.requests]
    assert seen == [path] * 3


@pytest.mark.parametrize("path", NOWHERE)
async def test_everything_else_is_nowhere(gateway: Gateway, path: str) -> None:
    """Paths of nobody, and the services' internal ones, are 404, also with a body over the limit."""
    assert_problem(await gateway.client.get(path), 404, "not_found")
    assert_problem(await gateway.client.post(path, content=b"x" * (2 * LIMIT)), 404, "not_found")
    assert not any(upstream.requests for upstream in gateway.upstreams.values())


@pytest.mark.parametrize(
    "path",
    [
        "/api/cart%2Fitems",
        "/api/cart%2f..%2fadmin",
        "/api/cart%5citems",
        "/api/cart%0a",
        "/api/cart%0D%0Ax",
        "/api/cart%7F",
        "/api/unsubscribe/..%2f..%2fmetrics",
    ],
)
async def test_an_escaped_slash_is_refused(gateway: Gateway, path: str) -> None:
    """Gateway and service would read different paths; the client's correlation id is on the answer."""
    answer = await gateway.client.get(path, headers={"X-Correlation-ID": "mine"})
    assert_problem(answer, 400, "invalid_request")
    assert answer.headers["x-correlation-id"] == "mine"
    assert not any(upstream.requests for upstream in gateway.upstreams.values())
    assert (await gateway.client.get("/api/cart?next=%2Fa%0a")).status_code == 200, "a query may hold anything"


async def test_slashes_and_dots_are_made_plain(gateway: Gateway) -> None:
    """The service sees the path that the route was chosen by."""
    await gateway.raw(b"GET //api///me/../cart//items HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [request.target for request in gateway.upstreams["orders"].requests] == ["/api/cart/items"]
