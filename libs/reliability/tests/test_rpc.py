"""gRPC over mutual TLS: deadlines and attempt numbers that cross, retries that are told when, calls that are shed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.ports import HOST
from holdfast.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from holdfast.common.v1 import access_pb2
from libs.reliability.tests.support import eventually
from reliability import deadline, rpc
from reliability.bulkhead import Bulkhead
from reliability.errors import DeadlineExceeded, IdempotencyInProgress, NotFound, Problem, RateLimited, Unavailable
from reliability.ids import new_id
from reliability.retry import SAFE, UNKNOWN, Again, classify, previous_attempts, previous_attempts_scope, retry
from reliability.rpc import client
from reliability.testing import FaultProxy

if TYPE_CHECKING:
    from conftest import Servers

Context = Any
REQUEST = catalog_pb2.GetVariantsRequest()
LONG = 3600.0


class Peer(catalog_pb2_grpc.CatalogServiceServicer):
    """A catalog that does what the test says, once per entry of `script`, and answers after that."""

    def __init__(self) -> None:
        self.script: list[Callable[[Context], Awaitable[None]]] = []
        self.earlier: list[int] = []
        self.left: list[float] = []
        self.at: list[float] = []

    async def GetVariants(self, request: Any, context: Context) -> Any:  # noqa: N802
        """The one RPC these tests use."""
        self.earlier.append(previous_attempts())
        self.left.append(deadline.remaining(100))
        self.at.append(time.monotonic())
        if self.script:
            await self.script.pop(0)(context)
        return catalog_pb2.GetVariantsResponse()

    def add(self, server: grpc.aio.Server) -> None:
        """Serves this."""
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, server)


class Wire:
    """A peer behind a network that can fail."""

    def __init__(self, peer: Peer, proxy: FaultProxy, channel: grpc.aio.Channel, gate: Bulkhead) -> None:
        self.peer, self.proxy, self.channel, self.gate = peer, proxy, channel, gate
        self.stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        # A dependency of its own, so that no test spends the budget of another.
        self.step = f"{new_id()}.GetVariants"

    async def ask(self, **options: Any) -> Any:
        """One call, as a service makes it."""
        return await rpc.invoke(self.stub.GetVariants, REQUEST, step=self.step, **options)

    async def inside(self, count: int) -> None:
        """Returns when the peer has been called so often."""

        async def reached() -> bool:
            return len(self.peer.earlier) == count

        await eventually(reached)


@pytest_asyncio.fixture(loop_scope="session")
async def wire(servers: "Servers", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """Two calls at once, and a third may wait. Backoff is short; what a peer asks for is not."""
    monkeypatch.setattr(client, "_BACKOFF_BASE", 0.001)
    peer = Peer()  # type: ignore[abstract]
    gate = Bulkhead("peer", limit=2, waiting=1, patience=LONG)
    server, checks, port = rpc.build_server(
        {catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]: peer.add},
        access_pb2.access,
        address=f"{HOST}:0",
        tls=servers.identity("operator"),
        bulkhead=gate,
    )
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    async with FaultProxy(HOST, port) as proxy:
        channel = rpc.channel(f"{HOST}:{proxy.port}", servers.identity("orders"))
        yield Wire(peer, proxy, channel, gate)
        await channel.close()
        await server.stop(0)


def failing(error: Exception) -> Callable[[Context], Awaitable[None]]:
    """Raises as a servicer of ours does."""

    async def fail(_context: Context) -> None:
        raise error

    return fail


def aborting(code: grpc.StatusCode, *trailers: tuple[str, str | bytes]) -> Callable[[Context], Awaitable[None]]:
    """Fails as somebody else's server does, who knows nothing of ours."""

    async def abort(context: Context) -> None:
        await context.abort(code, "no", trailers)

    return abort


def retry_info(seconds: float) -> tuple[str, bytes]:
    """The trailer of a standard status with `RetryInfo`."""
    info, status = RetryInfo(), Status(code=8)
    info.retry_delay.FromNanoseconds(int(seconds * 1e9))
    status.details.add().Pack(info)
    return "grpc-status-details-bin", status.SerializeToString()


# --- deadlines


async def test_the_deadline_goes_out_and_comes_in(wire: Wire) -> None:
    """The peer finds what is left of ours, not a time of its own."""
    with deadline.deadline_scope(3):
        await wire.ask()
    await wire.ask(cap=1)
    # gRPC rounds the time up that it sends.
    assert 0 < wire.peer.left[0] < 3.2
    assert 0 < wire.peer.left[1] < 1.2


async def test_a_peer_that_does_not_answer_costs_the_deadline_and_is_named(wire: Wire) -> None:
    """One error, `deadline_exceeded`, with the step, and no second attempt of what took all the time there was."""
    stopped = asyncio.Event()

    async def hang(_context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    wire.peer.script = [hang]
    with deadline.deadline_scope(0.3), pytest.raises(DeadlineExceeded) as exceeded:
        await wire.ask()
    assert (exceeded.value.extensions, exceeded.value.status) == ({"step": wire.step}, 504)
    await stopped.wait()  # and the peer works for nobody no longer
    assert len(wire.peer.earlier) == 1


async def test_a_network_that_goes_silent_costs_the_deadline_too(wire: Wire) -> None:
    """Nothing comes back, not even that the connection is gone."""
    await wire.ask()
    wire.proxy.hang()
    with deadline.deadline_scope(0.3), pytest.raises(DeadlineExceeded):
        await wire.ask()
    wire.proxy.forward()


async def test_the_step_a_peer_ran_out_of_time_in_is_named_here(wire: Wire) -> None:
    """Its database, not "catalog"."""
    wire.peer.script = [failing(DeadlineExceeded("database"))]
    with pytest.raises(Problem) as exceeded:
        await wire.ask()
    assert (exceeded.value.code, exceeded.value.extensions) == ("deadline_exceeded", {"step": "database"})
    assert len(wire.peer.earlier) == 1


async def test_no_call_is_made_when_time_is_up(wire: Wire) -> None:
    """The peer hears nothing."""
    with deadline.deadline_scope(0), pytest.raises(DeadlineExceeded):
        await wire.ask()
    assert wire.peer.earlier == []


# --- attempts


async def test_the_attempt_number_travels(wire: Wire) -> None:
    """The peer sees how many came before, and its own retries below a second one are none."""
    below: list[int] = []

    async def work(_context: Context) -> None:
        calls = 0

        async def fail() -> None:
            nonlocal calls
            calls += 1
            raise ConnectionRefusedError

        try:
            await retry(fail, base=0.001)
        except ConnectionRefusedError:
            below.append(calls)
            raise Unavailable(retry_after=0.001) from None

    wire.peer.script = [work] * 3
    with pytest.raises(Problem, match="Not available"):
        await wire.ask()
    assert wire.peer.earlier == [0, 1, 2]
    assert below == [3, 1, 1]


async def test_a_service_in_the_middle_of_a_second_attempt_calls_on_once(wire: Wire) -> None:
    """And says so."""
    wire.peer.script = [failing(Unavailable(retry_after=0.001))] * 3
    with previous_attempts_scope(2), pytest.raises(Problem):
        await wire.ask()
    assert wire.peer.earlier == [2]


async def test_a_connection_that_is_cut_is_made_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is lost, the call is repeated: every RPC of ours is idempotent."""
    # Long enough for a handshake on a busy machine: an attempt while there is no connection fails at once.
    monkeypatch.setattr(client, "_BACKOFF_BASE", 0.5)
    await wire.ask()

    async def cut(_context: Context) -> None:
        wire.proxy.cut()

    wire.peer.script = [cut]
    await wire.ask(attempts=5)
    *before, again = wire.peer.earlier
    assert before == [0, 0]
    assert again >= 1


async def test_a_peer_that_is_away_is_unavailable_after_three_attempts(wire: Wire) -> None:
    """With a message for the client, and the budget three tokens poorer."""
    wire.proxy.refuse()
    budget = client._dependency(wire.step.partition(".")[0]).budget
    full = budget.tokens
    with pytest.raises(Unavailable):
        await wire.ask()
    assert full - budget.tokens == 3


async def test_a_spent_budget_ends_the_retries_of_all_calls_to_a_peer(wire: Wire) -> None:
    """Not the calls: one of them may find it back again, and successes earn retries."""
    budget = client._dependency(wire.step.partition(".")[0]).budget
    while budget.allows:
        budget.failed()
    wire.peer.script = [failing(Unavailable(retry_after=0.001))]
    with pytest.raises(Problem):
        await wire.ask()
    assert len(wire.peer.earlier) == 1
    for _ in range(21):  # one token for the failure, one to be above half
        await wire.ask()
    wire.peer.script = [failing(Unavailable(retry_after=0.001))]
    await wire.ask()
    assert wire.peer.earlier[-1] == 1


async def test_refusals_are_not_repeated(wire: Wire) -> None:
    """Asking again does not make it exist."""
    wire.peer.script = [failing(NotFound())] * 2
    with pytest.raises(Problem) as problem:
        await wire.ask()
    assert (problem.value.code, len(wire.peer.earlier)) == ("not_found", 1)


@pytest.mark.parametrize("error", [Unavailable, RateLimited, IdempotencyInProgress])
async def test_what_a_peer_says_about_when_is_kept(wire: Wire, error: type[Problem]) -> None:
    """503, 429 and 409 with a time: waited for, and then it works."""
    wire.peer.script = [failing(error(retry_after=0.2))]
    await wire.ask()
    assert wire.peer.earlier == [0, 1]
    assert wire.peer.at[1] - wire.peer.at[0] >= 0.2


async def test_a_wait_that_ends_after_the_deadline_is_not_begun(wire: Wire) -> None:
    """The caller is told at once, with the peer's own time."""
    wire.peer.script = [failing(RateLimited(retry_after=900))]
    with pytest.raises(Problem) as problem:
        await wire.ask()
    assert (problem.value.code, problem.value.retry_after, len(wire.peer.earlier)) == ("rate_limited", 900, 1)


UNAVAILABLE, EXHAUSTED, ABORTED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)


@pytest.mark.parametrize(
    ("code", "trailers", "again", "after"),
    [
        (UNAVAILABLE, (), UNKNOWN.again, 0),
        (UNAVAILABLE, (("grpc-retry-pushback-ms", "20"),), UNKNOWN.again, 0.02),
        (UNAVAILABLE, (("grpc-retry-pushback-ms", "-1"),), Again.NEVER, 0),
        (UNAVAILABLE, (("grpc-retry-pushback-ms", "soon"),), Again.NEVER, 0),
        (UNAVAILABLE, (retry_info(9), ("grpc-retry-pushback-ms", "-1")), Again.NEVER, 0),
        (EXHAUSTED, (), Again.NEVER, 0),
        (EXHAUSTED, (retry_info(0.02),), SAFE.again, 0.02),
        (ABORTED, (), Again.NEVER, 0),
        (ABORTED, (retry_info(0.02),), UNKNOWN.again, 0.02),
        (grpc.StatusCode.INTERNAL, (retry_info(0.02),), Again.NEVER, 0),
        (grpc.StatusCode.DEADLINE_EXCEEDED, (retry_info(0.02),), Again.NEVER, 0),
    ],
)
async def test_somebody_elses_server_is_understood(
    wire: Wire, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...], again: Again, after: float
) -> None:
    """Statuses, `RetryInfo` and pushback (gRFC A6) of a server that is not ours, over the real wire."""
    wire.peer.script = [aborting(code, *trailers)]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await wire.stub.GetVariants(REQUEST, timeout=5)
    found = classify(failed.value)
    assert found.again is again
    assert found.after == pytest.approx(after)
    wire.peer.script, wire.peer.earlier = [aborting(code, *trailers)], []
    if again is Again.NEVER:
        with pytest.raises(Problem):
            await wire.ask()
    else:
        await wire.ask()
    assert len(wire.peer.earlier) == (1 if again is Again.NEVER else 2)


async def test_clients_with_retries_of_their_own_are_told_by_pushback(wire: Wire) -> None:
    """A gRPC client that knows nothing of our problems."""
    wire.peer.script = [failing(Unavailable(retry_after=1.5))]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await wire.stub.GetVariants(REQUEST, timeout=5)
    assert ("grpc-retry-pushback-ms", "1500") in tuple(failed.value.trailing_metadata() or ())


# --- shedding


async def test_calls_over_the_limit_are_told_to_come_back_and_health_answers(wire: Wire) -> None:
    """Two inside, one waiting, the fourth is refused; all three others are served."""
    leave = asyncio.Event()

    async def stay(_context: Context) -> None:
        await leave.wait()

    wire.peer.script = [stay] * 3
    calls = [asyncio.create_task(wire.ask(attempts=1)) for _ in range(3)]
    await wire.inside(2)
    await _holding(wire.gate, active=2, waiting=1)
    with pytest.raises(Problem) as refused:
        await wire.ask(attempts=1)
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("unavailable", 503, 1.0)
    checks: Any = health_pb2_grpc.HealthStub(wire.channel)
    health = await checks.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    leave.set()
    await asyncio.gather(*calls)
    assert len(wire.peer.earlier) == 3
    assert (wire.gate.active, wire.gate.waiting) == (0, 0)


async def test_a_caller_that_gives_up_leaves_the_waiting_room(wire: Wire) -> None:
    """And the holders that are cut off give their permits back."""
    leave = asyncio.Event()

    async def stay(_context: Context) -> None:
        await leave.wait()

    wire.peer.script = [stay] * 2
    holders = [asyncio.create_task(wire.ask(attempts=1)) for _ in range(2)]
    await wire.inside(2)
    waiter = asyncio.create_task(wire.ask(attempts=1))
    await _holding(wire.gate, active=2, waiting=1)
    # Alone, and seen gone: cut off together, a holder's end may arrive first, and rightly admit the one that waits.
    waiter.cancel()
    await _holding(wire.gate, active=2, waiting=0)
    for call in holders:
        call.cancel()
    await _holding(wire.gate, active=0, waiting=0)
    await asyncio.gather(waiter, *holders, return_exceptions=True)
    assert len(wire.peer.earlier) == 2


async def _holding(gate: Bulkhead, *, active: int, waiting: int) -> None:
    async def reached() -> bool:
        return (gate.active, gate.waiting) == (active, waiting)

    await eventually(reached)


async def test_one_slow_peer_fills_its_own_bulkhead_and_no_other(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to it are refused on this side, at once and without a retry; calls to others go through."""
    leave = asyncio.Event()

    async def stay(_context: Context) -> None:
        await leave.wait()

    dependency = client._dependency(wire.step.partition(".")[0])
    narrow = client._Dependency(dependency.budget, Bulkhead("narrow", limit=1, waiting=0))
    known = client._dependency
    monkeypatch.setattr(client, "_dependency", lambda name: narrow if wire.step.startswith(name) else known(name))
    wire.peer.script = [stay]
    call = asyncio.create_task(wire.ask())
    await wire.inside(1)
    with pytest.raises(Unavailable):
        await wire.ask()
    assert len(wire.peer.earlier) == 1
    await rpc.invoke(wire.stub.GetVariants, REQUEST, step=f"{new_id()}.GetVariants")
    leave.set()
    await call
    assert narrow.bulkhead.active == 0
