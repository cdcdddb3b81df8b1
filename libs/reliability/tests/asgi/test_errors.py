"""One shape for every error, and nothing in it that is nobody's business."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from libs.reliability.tests.asgi.support import code
from libs.reliability.tests.support import answer_of
from reliability.asgi import Answer, Call, Endpoint
from reliability.errors import (
    FieldError,
    IdempotencyKeyReused,
    Internal,
    Problem,
    Unprocessable,
    ValidationFailed,
)
from reliability.health import Readiness
from reliability.runtime import Application


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


async def test_what_makes_no_sense_always_has_a_list_of_fields() -> None:
    """Empty when no field is to blame: a client may read it without looking whether it is there."""
    for error, errors in [
        (Unprocessable("too much"), []),
        (IdempotencyKeyReused(), []),
        (ValidationFailed([FieldError("/a", "is odd")]), [{"pointer": "/a", "message": "is odd"}]),
    ]:
        assert (await raised(error)).json()["errors"] == errors


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
