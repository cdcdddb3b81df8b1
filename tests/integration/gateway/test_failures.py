"""Services that are down, silent, gone in the middle, or fail by themselves."""

import json
import os

import pytest

from tests.integration.gateway.support import Gateway, answers, assert_problem, eventually, logged


async def test_a_service_that_is_down_is_503_at_once(gateway: Gateway) -> None:
    """Its own paths say when to try again, the others go on, and it is found again when it is back."""
    upstream = gateway.upstreams["notifications"]
    path = "/api/me/preferences"
    assert await answers(gateway.client, path, 200)
    await upstream.stop()
    try:
        first = await gateway.client.post(path)  # before the health check has noticed
        assert_problem(first, 503, "unavailable")

        async def nobody_to_wait_for() -> bool:
            correlation = os.urandom(8).hex()
            await gateway.client.get(path, headers={"X-Correlation-ID": correlation})
            return bool(json.loads(await logged(gateway, correlation))["flags"] == "UH")

        await eventually(nobody_to_wait_for)
        answer = await gateway.client.get(path)
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == first.headers["retry-after"] == "1"
        assert await answers(gateway.client, "/api/cart", 200)
    finally:
        await upstream.start()
    await eventually(lambda: answers(gateway.client, path, 200))


async def test_an_answer_in_time_or_504(gateway: Gateway) -> None:
    """A service that does not answer is given up at the route's timeout, and asked once."""
    answer = await gateway.client.post("/api/cart/items", headers={"X-Test": "hang"})
    assert_problem(answer, 504, "deadline_exceeded")
    assert len(gateway.upstreams["orders"].requests) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_was_sent_is_not_sent_again(gateway: Gateway, method: str) -> None:
    """A connection lost after the request was read may have had its effect: the client decides, not the gateway."""
    answer = await gateway.client.request(method, "/api/checkout", headers={"X-Test": "hang-up"})
    assert_problem(answer, 503, "unavailable")
    assert len(gateway.upstreams["orders"].requests) == 1


async def test_a_service_keeps_its_own_errors(gateway: Gateway) -> None:
    """An answer is an answer: a 503 of the service is handed on unchanged, and not retried."""
    answer = await gateway.client.get("/api/cart", headers={"X-Test": "unavailable"})
    assert (answer.status_code, answer.json()["service"]) == (503, "orders")
    assert len(gateway.upstreams["orders"].requests) == 1
