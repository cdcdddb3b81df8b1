"""What reaches a handler, and what goes back."""

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from libs.reliability.tests.asgi.support import JSON, SITE, Order, Page, Shop, code
from libs.reliability.tests.support import answer_of
from reliability import idempotency
from reliability.asgi import Answer, Call, Endpoint, KeyRule
from reliability.health import Readiness
from reliability.postgres import Database
from reliability.runtime import Application


async def test_a_good_request_arrives_checked(client: httpx.AsyncClient, shop: Shop) -> None:
    """Its body and query as models, its path, and its key bound to route and content."""
    await client.get("/items/tea", params={"limit": "5"})
    await client.head("/items/tea")
    await client.post("/orders", json={"name": "tea"}, headers={"idempotency-key": '"k-1"'})
    assert (shop.calls[0].path("name"), shop.calls[0].query) == ("tea", Page(limit=5))
    assert (shop.calls[2].body, shop.calls[2].raw) == (Order(name="tea"), b'{"name":"tea"}')
    assert shop.keys[:2] == [None, None]
    key = shop.keys[2]
    assert key is not None
    assert (key.route, key.value) == ("POST /orders", "k-1")


@pytest.mark.parametrize(
    ("path", "body", "same"),
    [
        ("/orders", b'{ "pieces": 1.0, "name": "tea" }', True),
        ("/orders", b'{"name":"tea","pieces":2}', False),
        ("/orders?gift=1", b'{"name":"tea","pieces":1}', False),
    ],
)
async def test_a_key_is_bound_to_what_is_asked_not_to_how(
    client: httpx.AsyncClient, shop: Shop, path: str, body: bytes, same: bool
) -> None:
    """Order, spaces and numbers may be written differently; a query is part of what is asked."""
    headers = JSON | {"idempotency-key": "k-1"}
    await client.post("/orders", content=b'{"name":"tea","pieces":1}', headers=headers)
    await client.post(path, content=body, headers=headers)
    first, second = shop.keys
    assert first is not None
    assert second is not None
    assert (first.fingerprint == second.fingerprint) is same


async def test_a_route_that_reads_its_body_itself_gets_the_bytes(client: httpx.AsyncClient, shop: Shop) -> None:
    """And its key is bound to them; a signed one has no key of ours."""
    for content in (b"\xff", b"\xfe", b""):
        await client.post("/raw", content=content, headers={"idempotency-key": "k"})
    await client.post("/hooks", content=b"event", headers={"idempotency-key": "k"})
    assert [call.raw for call in shop.calls] == [b"\xff", b"\xfe", b"", b"event"]
    assert len({key and key.fingerprint for key in shop.keys}) == 4
    assert shop.keys[3] is None


async def test_answers_are_models_values_responses_or_nothing(client: httpx.AsyncClient, shop: Shop) -> None:
    """With their status, headers and cookies."""
    answers: list[Answer | Response] = [
        Answer(Order(name="tea"), 201, {"location": "/x"}, ("a=1; Path=/", "b=2; Path=/")),
        Answer(status=204),
        PlainTextResponse("plain"),
    ]
    shop.answer = lambda _call: answers.pop(0)
    first, second, third = [await client.get("/items/x") for _ in range(3)]
    assert (first.status_code, first.json(), first.headers["location"]) == (201, {"name": "tea", "pieces": 1}, "/x")
    assert first.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
    assert (second.status_code, second.content) == (204, b"")
    assert third.text == "plain"


async def test_the_answer_to_a_used_key_is_replayed(database: Database) -> None:
    """Status, headers and body as they were, and a header that says so."""

    async def buy(call: Call) -> Answer:
        async with database.transaction() as connection:
            claim = await idempotency.claim(connection, "client")
            body = {"order": call.body.name}
            await claim.store(connection, 201, body, {"location": "/orders/1"})
        return Answer(body, 201, {"location": "/orders/1"})

    buying = Application([Endpoint("POST", "/buy", buy, body=Order, key=KeyRule.REQUIRED)])
    first, second, third = [
        await answer_of(buying, "POST", "/buy", json={"name": name}, headers={"idempotency-key": "k-1"})
        for name in ("tea", "tea", "rum")
    ]
    assert (first.status_code, first.json(), first.headers["location"]) == (201, {"order": "tea"}, "/orders/1")
    assert (second.status_code, second.content, second.headers["location"]) == (201, first.content, "/orders/1")
    assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
    assert code(third) == (422, "idempotency_key_reused")


async def test_a_path_without_parameters_goes_before_a_pattern_that_fits_it() -> None:
    """Whatever their order in the table (OpenAPI 3.1, Path Templating)."""

    async def tell(call: Call) -> Answer:
        return Answer({"route": call.request.scope["holdfast.route"], "parameters": call.request.path_params})

    table = [Endpoint("GET", path, tell) for path in ("/orders/{id}", "/orders/export")]
    transport = httpx.ASGITransport(Application(table).asgi(Readiness({}), request_seconds=30.0))
    async with httpx.AsyncClient(transport=transport, base_url=SITE) as client:
        answers = [(await client.get(f"/orders/{last}")).json() for last in ("export", "7")]
    assert answers == [
        {"route": "/orders/export", "parameters": {}},
        {"route": "/orders/{id}", "parameters": {"id": "7"}},
    ]
