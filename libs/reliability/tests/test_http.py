"""Calls to somebody over HTTP: within the deadline, again only where safe, and not at all while they are down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reliability import deadline, telemetry
from reliability.circuit_breaker import CircuitOpen, Rules, State
from reliability.context import correlation_scope
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.http import HttpClient
from reliability.retry import RetryBudget, previous_attempts_scope
from reliability.testing import FakeClock, FaultProxy

Answerer = Callable[[httpx.Request], httpx.Response]


@dataclass
class Peer:
    """Somebody's API: does what the script says, once per entry, and answers 200 after that."""

    script: list[Answerer] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx instead of a network."""
        self.asked.append(request)
        return self.script.pop(0)(request) if self.script else httpx.Response(200, json={"fine": True})

    def client(self, **options: Any) -> HttpClient:
        """A client of this peer that waits for nothing; what a wait is made of is tested with `retry`."""
        transport = httpx.MockTransport(self.answer)
        return HttpClient("peer", "http://peer.test", transport=transport, sleep=FakeClock().sleep, **options)


def status(code: int, **headers: str) -> Answerer:
    """Answers with a status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: httpx.Response(code, headers=named)


def failing(error: type[httpx.TransportError]) -> Answerer:
    """Does not answer."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error("x", request=request)

    return fail


@pytest.fixture
def peer() -> Peer:
    """Somebody who is there."""
    return Peer()


@pytest.mark.parametrize(
    ("method", "key", "fault", "asked"),
    [
        ("GET", None, status(503), 2),
        ("PUT", None, failing(httpx.ReadTimeout), 2),
        ("POST", None, failing(httpx.ReadTimeout), 1),  # it may have happened
        ("POST", "k-1", failing(httpx.ReadTimeout), 2),
        ("POST", None, failing(httpx.ConnectError), 2),  # it never left
        ("POST", None, status(429, retry_after="1"), 2),  # it was refused
        ("POST", None, status(502), 1),
        ("GET", None, status(500), 1),  # will be the same again
        ("GET", None, status(404), 1),
    ],
)
async def test_what_is_safe_is_tried_again(
    peer: Peer, method: str, key: str | None, fault: Answerer, asked: int
) -> None:
    """By its method, by its key, or because it certainly did nothing."""
    peer.script = [fault]
    async with peer.client() as client:
        with contextlib.suppress(Unavailable):
            await client.request(method, "/", key=key)
    assert len(peer.asked) == asked
    assert {request.headers.get("idempotency-key") for request in peer.asked} == {key}


async def test_all_attempts_share_one_time(peer: Peer) -> None:
    """Who asks for more than there is left is not waited for, and an address that is dead takes a part of it only."""
    peer.script = [status(503, retry_after="9")] * 2
    async with peer.client(cap=8.0) as client:
        assert (await client.request("GET", "/")).status_code == 503
    (asked,) = peer.asked
    assert asked.extensions["timeout"]["connect"] == 2.0
    assert 2.0 < asked.extensions["timeout"]["read"] <= 8.0


async def test_every_status_is_an_answer(peer: Peer) -> None:
    """Also the one that is left when all attempts have been made."""
    peer.script = [status(404), *[status(503)] * 3]
    async with peer.client(rules=Rules(failures=9)) as client:
        assert [(await client.request("GET", "/")).status_code for _ in range(3)] == [404, 503, 200]
    assert len(peer.asked) == 5


async def test_who_is_down_is_not_asked(peer: Peer) -> None:
    """After three failures calls are refused here, with the seconds to stay away; a refusal is no failure."""
    peer.script = [failing(httpx.ConnectError)] * 3
    async with peer.client() as client:
        with pytest.raises(Unavailable):
            await client.request("GET", "/")
        for _ in range(2):
            with pytest.raises(CircuitOpen) as refused:
                await client.request("GET", "/")
        assert (refused.value.retry_after or 0) > 0
        assert (len(peer.asked), client.breaker.state) == (3, State.OPEN)


@pytest.mark.parametrize("answer", [status(404), status(429), status(409)])
async def test_who_refuses_is_not_down(peer: Peer, answer: Answerer) -> None:
    """Below 500 somebody has answered."""
    peer.script = [answer] * 9
    async with peer.client() as client:
        for _ in range(3):
            await client.request("GET", "/")
    assert client.breaker.state is State.CLOSED


@pytest.mark.parametrize("url", ["ftp://peer.test/", "http://peer.test/\x00"])
async def test_a_call_that_never_was_one_says_nothing_about_the_peer(url: str) -> None:
    """A mistake in an address must not cut everybody off."""
    async with HttpClient("peer") as client:
        for _ in range(4):
            with pytest.raises((httpx.InvalidURL, Unavailable)):
                await client.request("GET", url)
        assert client.breaker.state is State.CLOSED


async def test_a_spent_budget_ends_the_retries(peer: Peer) -> None:
    """One for all calls of the client."""
    budget = RetryBudget(2)
    peer.script = [status(503)] * 9
    async with peer.client(budget=budget, rules=Rules(failures=99)) as client:
        for _ in range(3):
            await client.request("GET", "/")
    assert len(peer.asked) == 3


async def test_the_ids_the_trace_and_the_attempt_go_along(peer: Peer, spans: InMemorySpanExporter) -> None:
    """So that the other side is part of the flow, and tries nothing again within our second attempt."""
    peer.script = [status(503)]
    async with peer.client() as client, peer.client(ids=False) as stranger:
        with correlation_scope("flow-1"), telemetry.span("work") as work:
            await client.request("GET", "/", headers={"accept": "text/plain"})
            await stranger.request("GET", "/")
    first, second, third = [request.headers for request in peer.asked]
    assert [each["x-attempt"] for each in (first, second)] == ["1", "2"]
    assert first["x-correlation-id"] == second["x-correlation-id"] == "flow-1"
    assert first["accept"] == "text/plain"
    assert f"{work.get_span_context().trace_id:032x}" in first["traceparent"]
    assert not {"x-correlation-id", "x-attempt", "traceparent"} & set(third)
    made = [span for span in spans.get_finished_spans() if span.name == "peer GET"]
    assert [(span.attributes or {})["http.response.status_code"] for span in made] == [503, 200, 200]


async def test_below_somebody_elses_second_attempt_there_is_one(peer: Peer) -> None:
    """Only one layer retries."""
    peer.script = [status(503)] * 3
    async with peer.client() as client:
        with previous_attempts_scope(1):
            assert (await client.request("GET", "/")).status_code == 503
    assert [request.headers["x-attempt"] for request in peer.asked] == ["2"]


# --- time, over a real network


class Server:
    """A server of raw bytes on a port of its own."""

    def __init__(self) -> None:
        self.script: list[Callable[[asyncio.StreamWriter], Awaitable[None]]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if self.script:
                    await self.script.pop(0)(writer)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    """Listens on loopback."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Sends one byte of a long answer after the other; each is in time for httpx."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await asyncio.sleep(0.01)


async def test_an_answer_that_drips_ends_at_the_deadline_and_names_the_step(server: Server) -> None:
    """One error, `deadline_exceeded`, however alive the connection is; the next call is made as usual."""
    server.script = [drip]
    async with HttpClient("slow", f"http://127.0.0.1:{server.port}") as client:
        with deadline.deadline_scope(0.2), pytest.raises(DeadlineExceeded) as exceeded:
            await client.request("GET", "/")
        assert (exceeded.value.status, exceeded.value.extensions) == (504, {"step": "slow GET"})
        assert client.breaker.snapshot().failures == 0  # it had little time
        assert (await client.request("GET", "/")).text == "ok"


async def test_a_hung_peer_that_had_its_time_is_a_failure(server: Server) -> None:
    """A hang gives no other sign."""

    async def hang(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server.script = [hang]
    async with HttpClient("hung", f"http://127.0.0.1:{server.port}", cap=1.05, rules=Rules(failures=1)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.request("GET", "/")
        assert client.breaker.state is State.OPEN


async def test_no_call_is_made_when_time_is_up(peer: Peer) -> None:
    """The peer hears nothing."""
    async with peer.client() as client:
        with deadline.deadline_scope(0), pytest.raises(DeadlineExceeded):
            await client.request("GET", "/")
    assert peer.asked == []


async def test_a_cancelled_call_says_nothing_about_the_peer(server: Server) -> None:
    """Three impatient callers."""
    started = asyncio.Event()

    async def hang(_writer: asyncio.StreamWriter) -> None:
        started.set()
        await asyncio.Event().wait()

    server.script = [hang] * 3
    async with HttpClient("peer", f"http://127.0.0.1:{server.port}") as client:
        for _ in range(3):
            started.clear()
            task = asyncio.ensure_future(client.request("GET", "/"))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert client.breaker.snapshot().failures == 0


async def test_a_lost_answer_is_asked_for_again_only_with_a_key(server: Server) -> None:
    """The server has done it, and the answer never came: without a key that is for the caller to sort out."""
    async with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        HttpClient("x", f"http://127.0.0.1:{proxy.port}") as client,
    ):
        proxy.drop_reply(b"POST")
        with pytest.raises(Unavailable):
            await client.request("POST", "/")
        proxy.drop_reply(b"POST")
        assert (await client.request("POST", "/", key="k-1")).text == "ok"
    assert proxy.count(b"POST / ") == 3
