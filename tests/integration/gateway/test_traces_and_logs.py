"""What can be seen of a request afterwards, and what must not be."""

import json
import os
from typing import Any

import pytest

from tests.integration.gateway.support import Gateway, eventually, logged


def attributes(span: Any) -> dict[str, str]:
    return {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_the_trace_goes_on_through_the_gateway(gateway: Gateway, flags: str) -> None:
    """From client to gateway span to service: one trace, the span found by correlation id, sampled in any case."""
    trace, parent, correlation = os.urandom(16).hex(), os.urandom(8).hex(), os.urandom(8).hex()
    headers = {"traceparent": f"00-{trace}-{parent}-{flags}", "X-Correlation-ID": correlation}
    answer = await gateway.client.get("/api/unsubscribe/secret-token?email=secret", headers=headers)
    received = gateway.upstreams["admin"].spans

    async def arrived() -> bool:
        return any(attributes(span).get("correlation.id") == correlation for _, span in received)

    await eventually(arrived)
    ((service, span),) = [item for item in received if attributes(item[1]).get("correlation.id") == correlation]
    assert (service, span.name, span.trace_id.hex()) == ("gateway", "GET /api/unsubscribe", trace)
    assert span.parent_span_id.hex() == parent
    assert attributes(span)["request.id"] == answer.headers["x-request-id"]
    assert attributes(span)["url.path"] == "/api/unsubscribe/-"
    assert not [value for value in attributes(span).values() if "secret" in value]
    (request,) = gateway.upstreams["notifications"].requests
    assert request.values("traceparent") == [f"00-{trace}-{span.span_id.hex()}-01"]


async def test_the_access_log_tells_the_story_and_no_secret(gateway: Gateway) -> None:
    """One JSON line per request, found by correlation id; no query, no token, no credentials."""
    correlation = os.urandom(8).hex()
    headers = {"X-Correlation-ID": correlation, "Authorization": "Bearer secret", "Cookie": "session=secret"}
    await gateway.client.post("/api/unsubscribe/secret?token=secret", headers=headers, content=b"1234")
    line = await logged(gateway, correlation)
    assert "secret" not in line
    entry = json.loads(line)
    expected = {
        "correlation_id": correlation,
        "method": "POST",
        "path": "/api/unsubscribe/-",
        "status": 200,
        "upstream": "notifications",
        "bytes_in": 4,
        "attempts": 1,
    }
    assert entry | expected == entry
    assert len(entry["trace_id"]) == 32
