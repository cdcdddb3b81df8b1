"""What is kept, replaced, taken off and added on the way in and out."""

import json
import os

import pytest

from reliability.asgi import SECURITY_HEADERS
from tests.integration.gateway.support import HOST, Gateway, eventually


@pytest.mark.parametrize("path", ["/api/cart", "/nowhere"])
async def test_a_good_correlation_id_is_kept(gateway: Gateway, path: str) -> None:
    """The client's id reaches the service and comes back, on errors too; the service cannot change it."""
    for value in ("a", "A-b_c.9", "x" * 128):
        answer = await gateway.client.get(path, headers={"X-Correlation-ID": value})
        assert answer.headers.get_list("x-correlation-id") == [value]
        for request in gateway.upstreams["orders"].requests[-1:]:
            assert request.values("x-correlation-id") == [value]


@pytest.mark.parametrize("values", [[], [""], ["x" * 129], ["a b"], ["a;b"], ["ä"], ["a", "b"]])
@pytest.mark.parametrize("path", ["/api/cart", "/nowhere"])
async def test_a_bad_correlation_id_is_replaced(gateway: Gateway, path: str, values: list[str]) -> None:
    """None, too long, other characters or several: one new id for the service and the client alike."""
    headers = [(b"X-Correlation-ID", value.encode()) for value in values]
    answer = await gateway.client.get(path, headers=headers)
    (answered,) = answer.headers.get_list("x-correlation-id")
    assert len(answered) == 36
    for request in gateway.upstreams["orders"].requests:
        assert request.values("x-correlation-id") == [answered]


async def test_forged_headers_are_stripped(gateway: Gateway) -> None:
    """The services believe the gateway, so nothing that only the gateway may say comes from a client."""
    forged = {
        "X-Request-Id": "forged",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "forged",
        "X-Real-Ip": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Client-Address": "203.0.113.9",
        "X-Envoy-External-Address": "203.0.113.9",
        "X-Envoy-Expected-Rq-Timeout-Ms": "999999",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "999999",
        "X-Envoy-Retry-On": "5xx",
        "X-Envoy-Max-Retries": "9",
        "X-Envoy-Anything": "forged",
        "X-Deadline-Ms": "999999",
        "X-Attempt": "9",
    }
    answer = await gateway.client.get("/api/cart", headers=forged)
    (request,) = gateway.upstreams["orders"].requests
    everything = [value for _, value in request.headers]
    assert not {"forged", "203.0.113.9", "for=203.0.113.9", "999999", "5xx", "9"} & set(everything)
    assert request.values("x-client-address") == [HOST]
    assert request.values("x-envoy-expected-rq-timeout-ms") == ["1000"], "the service is told what time it has"
    assert request.values("x-request-id") == [answer.headers["x-request-id"]]
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ({}, []),
        ({"Via": "1.1 proxy", "X-Forged": "forwarded", "X-Claimed-Forwarded": "1"}, []),
        ({"X-Forwarded-For": "203.0.113.9"}, ["x-forwarded-for"]),
        (
            {"X-Forwarded-For": "-", "Forwarded": "for=_x", "X-Real-IP": "::1", "X-Client-Address": "10.0.0.1"},
            ["x-forwarded-for,forwarded,x-real-ip,x-client-address"],
        ),
    ],
    ids=["nothing", "what only the gateway says", "one", "all"],
)
async def test_whoever_says_where_they_come_from_is_noted(
    gateway: Gateway, said: dict[str, str], noted: list[str]
) -> None:
    """The service is told which headers were taken off, and so is the log; of what was in them, nothing."""
    correlation = os.urandom(8).hex()
    for path in ("/api/cart", "/nowhere"):
        await gateway.client.get(path, headers={**said, "X-Correlation-ID": correlation})
    (request,) = gateway.upstreams["orders"].requests
    assert request.values("x-forged") == noted
    assert not [name for name, _ in request.headers if name.startswith("x-claimed")]

    async def written() -> bool:
        return gateway.log.read_text().count(correlation) == 2

    await eventually(written)
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if correlation in line]
    assert [line["forged"] for line in lines] == [noted[0] if noted else None] * 2


async def test_a_page_keeps_a_policy_of_its_own(gateway: Gateway) -> None:
    """The gateway adds the security headers that a service has not sent, and replaces none."""
    plain, page = [await gateway.client.get("/api/docs", headers={"X-Test": test}) for test in ("", "page")]
    assert plain.headers["content-security-policy"] == dict(SECURITY_HEADERS)["content-security-policy"]
    assert page.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert page.headers["x-content-type-options"] == "nosniff"
