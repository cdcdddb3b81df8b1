"""The HTTP edge: routes as a table, the same checks in the same order, and one shape for every error."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from libs.reliability.tests.support import answer_of
from reliability import context, idempotency
from reliability.asgi import MAX_BODY, Access, Answer, Call, Endpoint, KeyRule, Perimeter, authenticator, routes
from reliability.context import Principal
from reliability.errors import Internal, Problem, Unavailable
from reliability.health import Readiness
from reliability.postgres import Database
from reliability.runtime import Application
from reliability.tokens import ACCESS_COOKIE, ALGORITHM, AUDIENCE, ISSUER, TokenVerifier

JSON = {"content-type": "application/json"}
SITE = "https://shop.test"


class Order(BaseModel):
    """What is asked."""

    name: str
    pieces: int = Field(default=1, ge=1)


class Page(BaseModel):
    """Which part of it."""

    limit: int = Field(default=10, le=100)


class Shop:
    """Handlers, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.keys: list[idempotency.Key | None] = []
        self.who: list[Principal | None] = []
        self.answer: Callable[[Call], Answer | Response] = lambda _call: Answer({"ok": True})

    async def handle(self, call: Call) -> Answer | Response:
        """Any route."""
        self.calls.append(call)
        self.keys.append(idempotency.current.get())
        self.who.append(context.principal.get())
        return self.answer(call)

    def table(self) -> list[Endpoint]:
        """One route of each kind."""
        return [
            Endpoint("GET", "/items/{name}", self.handle, query=Page),
            Endpoint("POST", "/orders", self.handle, body=Order, key=KeyRule.REQUIRED, status=201),
            Endpoint("POST", "/notes", self.handle, body=Order),
            Endpoint("POST", "/raw", self.handle),
            Endpoint("POST", "/hooks", self.handle, access=Access.SIGNED, key=KeyRule.IGNORED),
            Endpoint("GET", "/me", self.handle, access=Access.CUSTOMER),
            Endpoint("PUT", "/me", self.handle, access=Access.CUSTOMER, body=Order),
            Endpoint("GET", "/staff", self.handle, access=Access.STAFF),
            Endpoint("GET", "/staff/refunds", self.handle, access=Access.STAFF, permission="refund"),
        ]


@pytest.fixture
def shop() -> Shop:
    """Handlers that answer."""
    return Shop()


class Issuer:
    """Signs tokens as accounts does."""

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", parameters={"kid": "one"})
        self.fetched = 0
        self.away = False

    async def fetch(self) -> str:
        """The public keys."""
        self.fetched += 1
        if self.away:
            raise Unavailable
        return orjson.dumps(KeySet([self.key]).as_dict(private=False)).decode()

    def sign(self, **claims: Any) -> str:
        """A token that is good for a minute, but for what is said."""
        basic = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "exp": int(time.time()) + 60}
        header = {"alg": ALGORITHM, "kid": self.key.kid}
        return jwt.encode(header, basic | claims, self.key, algorithms=[ALGORITHM])


@pytest.fixture
def issuer() -> Issuer:
    """With one key."""
    return Issuer()


@pytest_asyncio.fixture(loop_scope="session")
async def client(shop: Shop, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, or anything else."""
    application = Application(shop.table(), authenticate=authenticator(TokenVerifier(issuer.fetch), SITE))
    edge = application.asgi(Readiness({}), request_seconds=8.0, perimeter=Perimeter(SITE))
    transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=SITE) as client:
        yield client


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem; each carries the correlation id in its body too."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["correlation_id"] == answer.headers["x-correlation-id"]
    assert document["type"] == f"urn:holdfast:problem:{document['code']}"
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]


# --- what reaches a handler


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


# --- what does not


DEEP = b'{"name":' + b"[" * 70 + b"]" * 70 + b"}"
WIDE = b'{"name":[' + b",".join([b"[]"] * 100) + b"]}"


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "expected"),
    [
        ("GET", "/nowhere", b"", {}, (404, "not_found")),
        ("DELETE", "/orders", b"", {}, (405, "method_not_allowed")),
        ("GET", "/items/a%00b", b"", {}, (404, "not_found")),
        ("POST", "/orders", b"x" * (MAX_BODY + 1), JSON, (413, "payload_too_large")),
        ("POST", "/orders", b"{}", {"content-length": "9" * 30}, (413, "payload_too_large")),
        ("PUT", "/me", b"nonsense", {}, (401, "unauthenticated")),
        ("POST", "/orders", b"{}", {"content-type": "text/plain"}, (415, "unsupported_media_type")),
        ("POST", "/orders", b"{", JSON, (400, "malformed_json")),
        ("POST", "/orders", DEEP, JSON, (400, "malformed_json")),
        ("POST", "/orders", WIDE, JSON, (400, "idempotency_key_missing")),
        ("POST", "/orders", b"{}", JSON, (400, "idempotency_key_missing")),
        ("POST", "/orders", b"{}", JSON | {"idempotency-key": "a b"}, (400, "idempotency_key_invalid")),
        ("POST", "/orders", b"{}", JSON | {"idempotency-key": '""'}, (400, "idempotency_key_invalid")),
        ("POST", "/orders", b"{}", JSON | {"idempotency-key": "k" * 256}, (400, "idempotency_key_invalid")),
        ("POST", "/orders", b"{}", JSON | {"idempotency-key": "k"}, (422, "validation_failed")),
        ("POST", "/notes", b"3", JSON, (422, "validation_failed")),
        ("GET", "/items/x?limit=101", b"", {}, (422, "validation_failed")),
    ],
)
async def test_each_bad_request_is_refused_in_the_same_order(
    client: httpx.AsyncClient,
    shop: Shop,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    expected: tuple[int, str],
) -> None:
    """And no handler is called."""
    answer = await client.request(method, path, content=content, headers=headers)
    assert code(answer) == expected
    assert shop.calls == []


async def test_a_body_whose_length_nobody_declared_is_refused_while_it_comes(client: httpx.AsyncClient) -> None:
    """No more of it is read than is allowed."""
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536

    answer = await client.post("/orders", content=flood(), headers=JSON)
    assert code(answer) == (413, "payload_too_large")
    assert sent <= 2 + MAX_BODY // 65536


async def test_fields_are_named_by_pointers(client: httpx.AsyncClient) -> None:
    """RFC 6901, also for what PostgreSQL could not store, wherever it is."""
    answer = await client.post("/notes", json={"pieces": 0})
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/name", "/pieces"]
    answer = await client.post("/notes", json={"name": "a\0", "tags": ["x", {"a/b~c": "\0", "n\0": 1}]})
    pointers = [each["pointer"] for each in answer.json()["errors"]]
    assert pointers == ["/name", "/tags/1/a~1b~0c", "/tags/1/n?"]


async def test_405_says_what_is_allowed(client: httpx.AsyncClient) -> None:
    """HEAD comes with GET."""
    assert (await client.post("/me")).headers["allow"] == "GET, HEAD, PUT"
    assert (await client.get("/orders")).headers["allow"] == "POST"


# --- who is asking


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


async def test_a_bearer_and_a_cookie_say_who_is_asking(client: httpx.AsyncClient, shop: Shop, issuer: Issuer) -> None:
    """The keys are fetched once."""
    token = issuer.sign(email="a@b.test", kind="customer")
    await client.get("/me", headers={"authorization": f"bEaReR {token}"})
    await client.get("/me", headers={"cookie": f"{ACCESS_COOKIE}={token}"})
    assert shop.who == [Principal("u-1", "customer", "a@b.test")] * 2
    assert issuer.fetched == 1


@pytest.mark.parametrize(
    ("claims", "path", "status"),
    [
        ({}, "/staff", 403),
        ({"kind": "staff"}, "/staff", 200),
        ({"kind": "staff"}, "/staff/refunds", 403),
        ({"kind": "staff", "permissions": ["refund"]}, "/staff/refunds", 200),
        ({"kind": "customer", "permissions": ["refund"]}, "/staff/refunds", 403),
    ],
)
async def test_staff_routes_are_for_staff_with_the_permission(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any], path: str, status: int
) -> None:
    """An empty permission is any member of staff's."""
    answer = await client.get(path, headers={"authorization": f"Bearer {issuer.sign(**claims)}"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "claims", [{"exp": 1}, {"iss": "somebody"}, {"aud": "else"}, {"sub": None}], ids=lambda value: next(iter(value))
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_none(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """401, and how to do better."""
    answer = await client.get("/me", headers={"authorization": f"Bearer {issuer.sign(**claims)}"})
    assert code(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"origin": SITE}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_a_cookie_that_another_site_made_a_browser_send_is_refused(
    client: httpx.AsyncClient, issuer: Issuer, headers: dict[str, str], status: int
) -> None:
    """Only where something may change; reading cannot be seen by the other site."""
    cookie = {"cookie": f"{ACCESS_COOKIE}={issuer.sign()}"}
    assert (await client.put("/me", json={"name": "x"}, headers=headers | cookie)).status_code == status
    assert (await client.get("/me", headers=headers | cookie)).status_code == 200


async def test_a_new_key_of_the_issuer_is_fetched_and_nonsense_is_not_a_stream_of_calls(issuer: Issuer) -> None:
    """At most once in ten seconds; when the issuer is away, the keys we have decide."""
    now = time.time()
    verifier = TokenVerifier(issuer.fetch, now=lambda: now)
    old = issuer.sign()
    await verifier.verify(old)
    for _ in range(5):
        with pytest.raises(Problem):
            await verifier.verify("nonsense")
    assert issuer.fetched == 1
    issuer.key = OKPKey.generate_key("Ed25519", parameters={"kid": "two"})
    now += 11
    assert (await verifier.verify(issuer.sign())).id == "u-1"
    issuer.away = True
    now += 11
    with pytest.raises(Problem) as refused:
        await verifier.verify(old)
    assert (refused.value.status, issuer.fetched) == (401, 3)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}])
async def test_a_token_says_nothing_about_how_it_is_verified(issuer: Issuer, header: dict[str, str]) -> None:
    """Neither unsigned nor signed with our public key as a secret."""
    parts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (header, {"sub": "u-1"})]
    with pytest.raises(Problem):
        await TokenVerifier(issuer.fetch).verify(b".".join([*parts, b""]).decode())


# --- errors


async def raised(error: Exception) -> httpx.Response:
    """The answer to a request whose handler raises."""

    async def fail(_call: Call) -> Answer:
        raise error

    return await answer_of(Application([Endpoint("GET", "/", fail)]), "GET", "/")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ZeroDivisionError("the password is swordfish"), (500, "internal")),
        (RecursionError("swordfish"), (500, "internal")),
        (ExceptionGroup("swordfish", [ValueError("swordfish")]), (500, "internal")),
        (HTTPException(405, headers={"allow": "GET"}), (405, "method_not_allowed")),
        (HTTPException(400, "bad form"), (400, "invalid_request")),
        (Internal(), (500, "internal")),
    ],
)
async def test_an_error_nobody_foresaw_leaks_nothing_but_the_correlation_id(
    error: Exception, expected: tuple[int, str]
) -> None:
    """Not its message, not its type, not where it was."""
    answer = await raised(error)
    assert code(answer) == expected
    for secret in ("swordfish", "ZeroDivision", "Recursion", "Traceback", ".py"):
        assert secret not in answer.text
    if not isinstance(error, HTTPException | Problem):
        assert set(answer.json()) == {"type", "title", "status", "detail", "code", "correlation_id"}


async def test_a_client_that_has_gone_is_no_error_of_ours(spans: InMemorySpanExporter) -> None:
    """It is noted as 499, and no span is marked."""

    async def fail(_call: Call) -> Answer:
        raise ClientDisconnect

    with pytest.raises(AssertionError):  # httpx, for want of an answer
        await answer_of(Application([Endpoint("GET", "/", fail)]), "GET", "/")
    (span,) = [span for span in spans.get_finished_spans() if span.name == "GET /"]
    assert (span.attributes or {})["http.response.status_code"] == 499
    assert "error.type" not in (span.attributes or {})


async def test_an_answer_that_has_begun_is_cut_off() -> None:
    """Half a body must not look like a whole one."""

    class Broken(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ZeroDivisionError

    async def begin(_call: Call) -> Response:
        return Broken()

    edge = Application([Endpoint("GET", "/", begin)]).asgi(Readiness({}), request_seconds=8)
    sent: list[Any] = []
    await_send: Callable[[Any], Awaitable[None]] = _collect(sent)
    with pytest.raises(ZeroDivisionError):
        await edge(
            {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}, _nothing, await_send
        )
    assert [message["type"] for message in sent] == ["http.response.start"]


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


def _collect(sent: list[Any]) -> Callable[[Any], Awaitable[None]]:
    async def send(message: Any) -> None:
        sent.append(message)

    return send


# --- health


async def test_ready_is_what_is_needed_and_not_draining() -> None:
    """What one can do without is degraded; a check that hangs or raises is one that failed."""

    async def up() -> bool:
        return True

    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    async def breaks() -> bool:
        raise OSError

    readiness = Readiness({"postgres": up}, {"redis": breaks})
    application = Application()
    answers = [await answer_of(application, "GET", path, readiness=readiness) for path in ("/livez", "/readyz")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].json() == {"ready": True, "checks": {"postgres": "up", "redis": "degraded"}}
    readiness.draining = True
    assert (await answer_of(application, "GET", "/readyz", readiness=readiness)).status_code == 503
    down = await answer_of(application, "GET", "/readyz", readiness=Readiness({"postgres": hangs}))
    assert (down.status_code, down.json()["checks"]) == (503, {"postgres": "down"})
    metrics = await answer_of(application, "GET", "/metrics", readiness=readiness)
    assert metrics.status_code == 200


async def test_routes_without_anybody_to_ask_are_public_or_401() -> None:
    """A table that was given no way to authenticate lets nobody in."""

    async def handle(_call: Call) -> Answer:
        return Answer()

    table = [Endpoint("GET", "/a", handle), Endpoint("GET", "/b", handle, access=Access.CUSTOMER)]
    assert len(routes(table)) == 2
    statuses = [(await answer_of(Application(table), "GET", path)).status_code for path in ("/a", "/b")]
    assert statuses == [200, 401]
