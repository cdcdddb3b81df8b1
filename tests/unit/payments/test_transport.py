"""What goes over the wire to Stripe, seen from the other end of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
import stripe

from services.payments_webhooks.stripe_api.transport import Transport

ANSWER = b"HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class OtherEnd:
    """A server of one port. It answers each request with `answer`, and without one it hangs up."""

    url: str = ""
    answer: bytes = ANSWER
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length or 0)))
                writer.write(self.answer)
                if not self.answer.endswith(b"{}"):
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture
async def other_end() -> AsyncIterator[OtherEnd]:
    """Something to talk to."""
    there = OtherEnd()
    server = await asyncio.start_server(there.take, "127.0.0.1", 0)
    there.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/things"
    yield there
    server.close()


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    """Ours."""
    made = Transport(timeout=30.0)
    yield made
    await made.close_async()


async def test_a_connection_serves_many_calls(transport: Transport, other_end: OtherEnd) -> None:
    """Bodies arrive whole, reads have none, and headers are found however they are spelled."""
    body, status, headers = await transport.request_async("post", other_end.url, {"X-Key": "k"}, "a=1&b=2")
    assert (body, status, headers["request-id"], headers["Request-Id"]) == (b"{}", 200, "req_1", "req_1")
    await transport.request_async("get", f"{other_end.url}?limit=1", {"X-Key": "k"})
    posted, read = other_end.requests
    host = other_end.url.split("/")[2].encode()
    assert posted == b"POST /v1/things HTTP/1.1\r\nHost: %b\r\nX-Key: k\r\nContent-Length: 7\r\n\r\na=1&b=2" % host
    assert read == b"GET /v1/things?limit=1 HTTP/1.1\r\nHost: %b\r\nX-Key: k\r\n\r\n" % host
    assert other_end.connections == 1


@pytest.mark.parametrize("answer", [b"", ANSWER[:-1], b"what?\r\n\r\n"], ids=["none", "half", "no HTTP"])
async def test_no_answer_is_an_error_the_sdk_knows(transport: Transport, other_end: OtherEnd, answer: bytes) -> None:
    """Whether something was done is not known: whoever asked may ask again, under the same key."""
    other_end.answer = answer
    with pytest.raises(stripe.APIConnectionError):
        await transport.request_async("post", other_end.url, {}, "")


async def test_nobody_there_is_an_error_the_sdk_knows(transport: Transport) -> None:
    """Refused connections count as Stripe's being away."""
    with pytest.raises(stripe.APIConnectionError):
        await transport.request_async("get", "http://127.0.0.1:1/v1/things", {})
