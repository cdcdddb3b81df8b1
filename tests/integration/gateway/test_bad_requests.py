"""What is refused before any service hears of it."""

import json
from collections.abc import AsyncIterator

import pytest

from reliability.asgi import SECURITY_HEADERS
from tests.integration.gateway.support import LIMIT, Gateway, assert_problem


async def test_the_body_limit_is_one_mebibyte(gateway: Gateway) -> None:
    """1048576 bytes pass, one more is 413 and no service hears of it; with a length and in chunks."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for start in range(0, count, 65_536):
            yield b"x" * min(65_536, count - start)

    for body in (b"x" * LIMIT, chunks(LIMIT)):
        assert (await gateway.client.post("/api/cart/items", content=body)).json()["bytes"] == LIMIT
    gateway.upstreams["orders"].requests.clear()
    for body in (b"x" * (LIMIT + 1), chunks(LIMIT + 1), b"x" * (2 * LIMIT)):
        assert_problem(await gateway.client.post("/api/cart/items", content=body), 413, "payload_too_large")
    assert not gateway.upstreams["orders"].requests


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"GET /api/cart HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"GET /api/cart HTTP/1.0\r\n\r\n", 426, "upgrade_required"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431, "headers_too_large"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\n", 408, "request_timeout"),
        (b"POST /api/cart HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow", 408, "request_timeout"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400, "invalid_request"),
    ],
    ids=["nonsense", "no host", "HTTP/1.0", "long header", "slow headers", "slow body", "two lengths"],
)  # fmt: skip
async def test_requests_refused_before_they_are_whole(gateway: Gateway, data: bytes, status: int, code: str) -> None:
    """Even what is no request gets a problem document with a correlation id, and no service hears of it."""
    head, _, body = (await gateway.raw(data)).partition("\r\n\r\n")
    lines = head.lower().split("\r\n")
    assert lines[0].split()[1] == str(status)
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert f"x-correlation-id: {problem['correlation_id']}" in lines
    for name, value in SECURITY_HEADERS:
        assert [line for line in lines if line.startswith(f"{name}:")] == [f"{name}: {value}".lower()]
    assert not gateway.upstreams["orders"].requests
