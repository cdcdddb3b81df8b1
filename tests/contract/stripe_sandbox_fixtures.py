"""A sandbox of its own for each test, the official SDK pointed at it, and somebody to receive its webhooks."""

import asyncio
import contextlib
import json
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.stripe import server
from sandbox.stripe.app import create_app
from sandbox.stripe.settings import Settings

API_KEY = "sk_test_of_the_contract"
WEBHOOK_SECRET = "whsec_of_the_contract"
BOUND_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook as it came in."""

    body: bytes
    signature: str
    at: float

    @property
    def event(self) -> stripe.Event:
        """The event, verified by the SDK as a service would."""
        event: stripe.Event = stripe.Webhook.construct_event(self.body, self.signature, WEBHOOK_SECRET)
        return event

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])


@dataclass(slots=True)
class Receiver:
    """Takes webhooks; answers with `answers` first, then always 200."""

    received: list[Received] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    gate: asyncio.Event | None = None
    busy: int = 0
    most_busy: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, request: Request) -> Response:
        """One webhook."""
        body = await request.body()
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        async with self.arrived:
            self.received.append(Received(body, request.headers["stripe-signature"], time.monotonic()))
            self.arrived.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        self.busy -= 1
        return Response(status_code=self.answers.popleft() if self.answers else 200)

    def of(self, event_type: str) -> list[Received]:
        """What came in of one type."""
        return [each for each in self.received if each.type == event_type]

    async def wait_for(self, event_type: str, count: int = 1) -> list[Received]:
        """Wait until so many of one type have come in."""
        async with asyncio.timeout(BOUND_SECONDS), self.arrived:
            await self.arrived.wait_for(lambda: len(self.of(event_type)) >= count)
        return self.of(event_type)


@dataclass(slots=True)
class Clock:
    """The time, moved on by hand."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: `api` is the SDK, `http` is everything else."""

    url: str
    api: stripe.StripeClient
    http: httpx.AsyncClient
    receiver: Receiver
    clock: Clock

    async def act(self, path: str, body: dict[str, Any] | None = None, status: int = 200) -> Any:
        """POST to /_sandbox and expect a status."""
        answer = await self.http.post(f"/_sandbox/{path}", json=body or {})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def fault(self, **order: Any) -> None:
        """Order a fault."""
        await self.act("faults", order, 201)

    async def pay(self, intent: str, card: str = "4242424242424242", status: int = 200) -> Any:
        """Pay as a customer does."""
        return await self.act(f"payment_intents/{intent}/pay", {"card": card}, status)

    async def event_types(self) -> list[str]:
        """Types of all events, oldest first."""
        listed = await self.api.v1.events.list_async({"limit": 100})
        return [event.type for event in reversed(listed.data)]

    async def get(self, path: str) -> Any:
        """GET anything as JSON."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def intent(self, **more: Any) -> stripe.PaymentIntent:
        """An intent over 12.99 USD."""
        values: Any = {"amount": 1299, "currency": "usd", "metadata": {"order_id": "o-1"}, **more}
        return await self.api.v1.payment_intents.create_async(values)


async def until(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds; fail after a bound."""
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def sdk(url: str, *, retries: int = 0, timeout: float = 5.0) -> stripe.StripeClient:
    """The official SDK, asynchronous, pointed at the sandbox by base address."""
    return stripe.StripeClient(
        API_KEY,
        base_addresses={"api": url},
        http_client=stripe.HTTPXClient(timeout=timeout, verify_ssl_certs=False),
        max_network_retries=retries,
    )


class Servers:
    """Servers of one test run. Stopping takes uvicorn a moment, so all are awaited together at the very end."""

    def __init__(self) -> None:
        self._stopping: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def serve(self, app: ASGIApp) -> AsyncIterator[str]:
        """Serve an application on a free port of the loopback."""
        # asyncio turns Nagle's algorithm off only for sockets that say they are TCP: 40 ms a call without it.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        running = server.build(app, host="127.0.0.1", port=0, log_level="warning")
        task = asyncio.create_task(running._serve(sockets=[listening]))
        await until(lambda: running.started or task.done())
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            self._stopping.append(task)

    async def stopped(self) -> None:
        """Wait for all of them."""
        await asyncio.gather(*self._stopping)


@pytest_asyncio.fixture(name="servers", scope="session")
async def servers_fixture() -> AsyncIterator[Servers]:
    """Where to serve things."""
    running = Servers()
    yield running
    await running.stopped()


@pytest_asyncio.fixture(name="receiver")
async def receiver_fixture() -> Receiver:
    """Who receives webhooks."""
    return Receiver()


@pytest_asyncio.fixture(name="receiver_url")
async def receiver_url_fixture(receiver: Receiver, servers: Servers) -> AsyncIterator[str]:
    """Where webhooks are received; nobody else's come here."""
    async with servers.serve(Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])) as url:
        yield f"{url}/hook"


@pytest_asyncio.fixture(name="sandbox")
async def sandbox_fixture(
    tmp_path: Path, receiver: Receiver, receiver_url: str, servers: Servers
) -> AsyncIterator[Sandbox]:
    """A sandbox whose webhooks go to the receiver."""
    settings = Settings("127.0.0.1", 0, API_KEY, receiver_url, (WEBHOOK_SECRET,), tmp_path / "stripe.db")
    async with running(settings, receiver, servers) as sandbox:
        yield sandbox


@contextlib.asynccontextmanager
async def running(settings: Settings, receiver: Receiver, servers: Servers) -> AsyncIterator[Sandbox]:
    """A sandbox with a clock that can be moved."""
    clock = Clock()
    async with servers.serve(create_app(settings, clock)) as url, httpx.AsyncClient(base_url=url, verify=False) as http:
        yield Sandbox(url, sdk(url), http, receiver, clock)
