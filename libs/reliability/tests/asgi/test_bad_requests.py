"""What reaches no handler: the same checks in the same order."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from pydantic import AfterValidator, BaseModel

from libs.reliability.tests.asgi.support import JSON, Shop, code
from libs.reliability.tests.support import answer_of
from reliability.asgi import MAX_BODY, Answer, Call, Endpoint
from reliability.runtime import Application

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


async def test_a_refusal_speaks_of_json_and_not_of_our_classes() -> None:
    """Whoever sent the body knows objects, not models, and nothing of Python's errors."""

    class Inner(BaseModel):
        at: Annotated[int, AfterValidator(_odd)]

    class Outer(BaseModel):
        inner: Inner

    async def take(_call: Call) -> Answer:
        return Answer(status=204)

    edge = Application([Endpoint("POST", "/", take, body=Outer, status=204)])
    for sent, said in [
        (b"[]", "Input should be an object"),
        (b'{"inner": 3}', "Input should be an object"),
        (b'{"inner": {"at": 2}}', "is even"),
    ]:
        (error,) = (await answer_of(edge, "POST", "/", content=sent, headers=JSON)).json()["errors"]
        assert error["message"] == said


def _odd(value: int) -> int:
    if value % 2 == 0:
        message = "is even"
        raise ValueError(message)
    return value


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
