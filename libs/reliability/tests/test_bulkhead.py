"""Load shedding: a limit that holds, a waiting room that empties, and permits that never leak."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from libs.reliability.tests.support import eventually
from reliability import bulkhead, deadline
from reliability.asgi import Answer, Call, Endpoint
from reliability.asgi.middleware import Message, Receive, Scope, Send
from reliability.bulkhead import Bulkhead, Overloaded, Priority
from reliability.health import Readiness
from reliability.retry import previous_attempts
from reliability.runtime import Application

FIRST, NORMAL = Priority.FIRST, Priority.NORMAL
LONG = 3600.0


class Crowd:
    """Tasks that hold a permit until they are told to go."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self.bulkhead = bulkhead
        self.inside: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, priority: Priority = NORMAL) -> None:
        """Starts a task and lets it get as far as it can."""
        self._gates[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, priority))
        await settle()

    async def leave(self, name: str) -> None:
        """Ends a holder."""
        self._gates[name].set()
        await settle()

    async def _stay(self, name: str, priority: Priority) -> None:
        async with self.bulkhead.permit(priority):
            self.inside.append(name)
            await self._gates[name].wait()

    async def over(self) -> None:
        """Ends everybody."""
        for gate in self._gates.values():
            gate.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_never_more_than_the_limit_and_everybody_in_the_room_gets_in() -> None:
    """Two hundred at once against ten: ten at any moment, all of them in the end, nothing left over."""
    gate, now, most = Bulkhead("test", limit=10, waiting=190, patience=LONG), 0, 0

    async def work() -> None:
        nonlocal now, most
        async with gate.permit():
            now += 1
            most = max(most, now)
            await settle()
            now -= 1

    await asyncio.gather(*(work() for _ in range(200)))
    assert (most, gate.active, gate.waiting) == (10, 0, 0)


async def test_who_finds_the_room_full_is_refused_at_once() -> None:
    """With the seconds to stay away; neither a permit nor a place is lost by it."""
    gate = Bulkhead("test", limit=1, waiting=1, patience=LONG, retry_after=3)
    crowd = Crowd(gate)
    await crowd.come("holder")
    await crowd.come("waiter")
    with pytest.raises(Overloaded) as refused:
        await gate.acquire()
    assert (refused.value.status, refused.value.code, refused.value.grpc) == (503, "unavailable", "UNAVAILABLE")
    assert refused.value.retry_after == 3
    await crowd.over()
    assert (crowd.inside, gate.active, gate.waiting) == (["holder", "waiter"], 0, 0)


async def test_who_waits_is_let_in_by_priority_and_then_in_order() -> None:
    """Webhooks before browsing, and nobody before those who came earlier."""
    crowd = Crowd(Bulkhead("test", limit=1, patience=LONG))
    await crowd.come("holder")
    for name, priority in (("browse 1", NORMAL), ("webhook 1", FIRST), ("browse 2", NORMAL), ("webhook 2", FIRST)):
        # More than one may wait: the room is as large as the limit unless it is told otherwise.
        crowd.bulkhead._room = 4
        await crowd.come(name, priority)
    for name in ("holder", "webhook 1", "webhook 2", "browse 1", "browse 2"):
        assert crowd.inside[-1] == name
        await crowd.leave(name)
    await crowd.over()


async def test_in_a_full_room_the_newest_of_the_others_makes_way() -> None:
    """For a webhook; one that is no more important than those waiting is refused itself."""
    crowd = Crowd(Bulkhead("test", limit=1, waiting=2, patience=LONG))
    await crowd.come("holder")
    await crowd.come("browse 1")
    await crowd.come("browse 2")
    await crowd.come("webhook 1", FIRST)
    assert isinstance(crowd.tasks["browse 2"].exception(), Overloaded)
    await crowd.come("webhook 2", FIRST)
    assert isinstance(crowd.tasks["browse 1"].exception(), Overloaded)
    await crowd.come("webhook 3", FIRST)
    assert isinstance(crowd.tasks["webhook 3"].exception(), Overloaded)
    await crowd.over()
    assert crowd.inside == ["holder", "webhook 1", "webhook 2"]


async def test_who_has_waited_long_enough_is_refused() -> None:
    """And leaves the room."""
    gate = Bulkhead("test", limit=1, patience=0.01)
    await gate.acquire()
    with pytest.raises(Overloaded):
        await gate.acquire()
    assert (gate.active, gate.waiting) == (1, 0)


async def test_waiting_takes_a_part_of_the_deadline_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who got in at the last moment could not finish; who has no time left does not wait at all."""
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def call_later(delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if callback is bulkhead._send_away:
            waits.append(delay)
            return later(0, callback, *args)
        return later(delay, callback, *args, context=context)

    monkeypatch.setattr(loop, "call_later", call_later)
    gate = Bulkhead("test", limit=1, patience=LONG)
    await gate.acquire()
    for seconds in (4.0, 0.0):
        with deadline.deadline_scope(seconds), pytest.raises(Overloaded):
            await gate.acquire()
    (wait,) = waits
    assert 0.9 < wait <= 1.0
    assert gate.waiting == 0


async def test_a_cancelled_waiter_leaves_the_room_and_takes_no_permit() -> None:
    """The next one gets in."""
    crowd = Crowd(Bulkhead("test", limit=1, waiting=2, patience=LONG))
    for name in ("holder", "leaver", "stayer"):
        await crowd.come(name)
    crowd.tasks["leaver"].cancel()
    await settle()
    assert crowd.bulkhead.waiting == 1
    await crowd.leave("holder")
    assert crowd.inside == ["holder", "stayer"]
    await crowd.over()
    assert crowd.bulkhead.active == 0


@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_who_is_cancelled_as_it_is_called_in_hands_the_permit_on(cancelled_first: bool) -> None:
    """Both in the same moment, in either order: the permit is not lost with the task."""
    crowd = Crowd(Bulkhead("test", limit=1, waiting=2, patience=LONG))
    for name in ("holder", "unlucky", "next"):
        await crowd.come(name)
    if cancelled_first:
        crowd.tasks["unlucky"].cancel()
        await crowd.leave("holder")
    else:
        crowd._gates["holder"].set()
        while not crowd.tasks["holder"].done():  # the permit is handed over in its last step
            await asyncio.sleep(0)
        crowd.tasks["unlucky"].cancel()
    await settle()
    assert crowd.inside == ["holder", "next"]
    await crowd.over()
    assert (crowd.bulkhead.active, crowd.bulkhead.waiting) == (0, 0)


async def test_a_block_that_fails_gives_its_permit_back() -> None:
    """Whatever it raises."""
    gate = Bulkhead("test", limit=1)
    for error in (ZeroDivisionError, asyncio.CancelledError):
        with pytest.raises(error):
            async with gate.permit():
                raise error
    assert gate.active == 0


def test_a_limit_of_none_is_refused() -> None:
    """Zero would be a service that answers nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        Bulkhead("test", limit=0)


class Model(RuleBasedStateMachine):
    """Any order of coming, leaving, cancelling and losing patience, with steps of the loop between or not."""

    LIMIT, ROOM = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gate = Bulkhead("model", limit=self.LIMIT, waiting=self.ROOM, patience=LONG)
        self.gates: dict[asyncio.Task[None], asyncio.Event] = {}
        self.holding: set[asyncio.Task[None]] = set()

    async def _stay(self, gate: asyncio.Event, priority: Priority) -> None:
        task = asyncio.current_task()
        assert task is not None
        async with self.gate.permit(priority):
            self.holding.add(task)
            try:
                await gate.wait()
            finally:
                self.holding.discard(task)

    def _alive(self) -> list[asyncio.Task[None]]:
        return [task for task in self.gates if not task.done()]

    @rule(priority=st.sampled_from(Priority))
    def come(self, priority: Priority) -> None:
        gate = asyncio.Event()
        self.gates[self.loop.create_task(self._stay(gate, priority))] = gate

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        alive = self._alive()
        self.gates[alive[data.draw(st.integers(0, len(alive) - 1))]].set()

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        alive = self._alive()
        alive[data.draw(st.integers(0, len(alive) - 1))].cancel()

    @precondition(lambda self: self.gate.waiting)
    @rule(data=st.data())
    def lose_patience(self, data: st.DataObject) -> None:
        tickets = [ticket for lane in self.gate._lanes.values() for ticket in lane]
        bulkhead._send_away(tickets[data.draw(st.integers(0, len(tickets) - 1))])

    @rule(steps=st.integers(1, 6))
    def run(self, steps: int) -> None:
        async def step() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.loop.run_until_complete(step())

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.holding) <= self.gate.active <= self.LIMIT
        assert self.gate.waiting <= self.ROOM

    @invariant()
    def nobody_waits_before_a_free_permit(self) -> None:
        assert not self.gate.waiting or self.gate.active == self.LIMIT

    def teardown(self) -> None:
        for gate in self.gates.values():
            gate.set()
        self.loop.run_until_complete(asyncio.wait(self.gates) if self.gates else asyncio.sleep(0))
        for task in self.gates:  # refusals are answers
            assert task.cancelled() or isinstance(task.exception(), Overloaded | None)
        assert (self.gate.active, self.gate.waiting) == (0, 0)
        self.loop.close()


Model.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase


# --- at the HTTP edge


class Shop:
    """An application whose one slow route waits for the test."""

    def __init__(self) -> None:
        self.gate = Bulkhead("process", limit=1, waiting=1, patience=LONG)
        self.open = asyncio.Event()
        self.handled: list[str] = []
        self.attempts: list[int] = []
        application = Application(
            endpoints=[
                Endpoint("GET", "/api/slow", self._slow),
                Endpoint("POST", "/api/stripe/webhook", self._slow),
            ],
            raw_routes=[Route("/v1/traces", lambda _: PlainTextResponse("kept"))],
        )
        self.edge = application.asgi(Readiness({}), request_seconds=8.0, bulkhead=self.gate)

    async def _slow(self, call: Call) -> Answer:
        self.handled.append(call.request.url.path)
        self.attempts.append(previous_attempts())
        await self.open.wait()
        return Answer({})

    async def waiting(self, count: int) -> None:
        """Returns when so many wait."""

        async def reached() -> bool:
            return self.gate.waiting == count

        await eventually(reached)

    async def busy(self) -> None:
        """Returns when somebody is inside."""

        async def reached() -> bool:
            return self.gate.active == 1

        await eventually(reached)


@pytest.fixture
def shop() -> Shop:
    """One request at a time, one in the waiting room."""
    return Shop()


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody browsing."""
    transport = httpx.ASGITransport(shop.edge, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield client


async def test_the_edge_says_503_before_it_drowns(shop: Shop, client: httpx.AsyncClient) -> None:
    """A problem with Retry-After and the correlation id; health and metrics answer, and those inside finish."""
    inside = [asyncio.create_task(client.get("/api/slow")) for _ in range(2)]
    await shop.waiting(1)
    refused = await client.get("/api/slow", headers={"x-correlation-id": "flow-1"})
    assert refused.status_code == 503
    assert refused.json()["code"] == "unavailable"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-correlation-id"] == refused.json()["correlation_id"] == "flow-1"
    assert int(refused.headers["retry-after"]) >= 1
    for path in ("/livez", "/readyz", "/metrics", "/v1/traces"):
        assert (await client.get(path)).status_code == 200
    shop.open.set()
    assert [answer.status_code for answer in await asyncio.gather(*inside)] == [200, 200]
    assert (await client.get("/api/slow")).status_code == 200
    assert (shop.gate.active, shop.gate.waiting) == (0, 0)


async def test_a_webhook_takes_the_place_of_somebody_browsing(shop: Shop, client: httpx.AsyncClient) -> None:
    """Its sender comes back a few times only; who browses may look again."""
    first = asyncio.create_task(client.get("/api/slow"))
    await shop.busy()
    browsing = asyncio.create_task(client.get("/api/slow"))
    await shop.waiting(1)
    webhook = asyncio.create_task(client.post("/api/stripe/webhook"))
    assert (await browsing).status_code == 503
    shop.open.set()
    assert [answer.status_code for answer in await asyncio.gather(first, webhook)] == [200, 200]
    assert shop.handled == ["/api/slow", "/api/stripe/webhook"]


async def test_a_client_that_goes_away_gives_its_place_and_its_permit_back(
    shop: Shop, client: httpx.AsyncClient
) -> None:
    """Cancelled while waiting and while being served."""
    inside = asyncio.create_task(client.get("/api/slow"))
    await shop.busy()
    waiting = asyncio.create_task(client.get("/api/slow"))
    await shop.waiting(1)
    for task in (waiting, inside):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (shop.gate.active, shop.gate.waiting) == (0, 0)


@pytest.mark.parametrize(("header", "earlier"), [({}, 0), ({"x-attempt": "3"}, 2), ({"x-attempt": "no"}, 0)])
async def test_the_attempt_of_an_internal_caller_is_taken_over(
    shop: Shop, client: httpx.AsyncClient, header: dict[str, str], earlier: int
) -> None:
    """It counts from 1; the gateway removes it from what comes from outside."""
    shop.open.set()
    await client.get("/api/slow", headers=header)
    assert shop.attempts == [earlier]


async def test_every_request_passes_where_no_limit_is_set() -> None:
    """The bulkhead is optional."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        answer: list[Message] = [
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"ok"},
        ]
        for message in answer:
            await send(message)

    from reliability.asgi import Edge

    async with httpx.AsyncClient(transport=httpx.ASGITransport(Edge(app)), base_url="http://x.test") as client:
        assert (await client.get("/")).text == "ok"
