"""Retries: what may be repeated, when, how often, and who repeats at all."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import asyncpg
import grpc
import grpc.aio
import httpx
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import exceptions as redis_errors

from libs.reliability.tests.support import Distant, DistantCache
from reliability import deadline, telemetry
from reliability.bulkhead import Overloaded
from reliability.errors import Conflict, DeadlineExceeded, Internal, RateLimited, Unavailable
from reliability.redis import Cache, CacheUnavailable
from reliability.retry import (
    PERMANENT,
    PUSHED_BACK,
    SAFE,
    UNKNOWN,
    RetryBudget,
    Verdict,
    classify,
    full_jitter,
    parse_attempts,
    parse_retry_after,
    previous_attempts,
    previous_attempts_scope,
    retry,
)

WAIT = st.floats(0, 5)


def from_peer(code: grpc.StatusCode, *trailers: tuple[str, str]) -> grpc.aio.AioRpcError:
    """A failed call of grpc.aio, with what the peer sent at its end."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers))


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every deadline."""
    clock = Clock()
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Failing:
    """Raises the given errors, one per call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def no_jitter(_low: float, _high: float) -> float:
    return 0.0


# --- how long


@given(st.integers(1, 10_000), st.floats(0.001, 10), st.floats(0.001, 1000))
def test_jitter_is_full_and_capped(attempt: int, base: float, cap: float) -> None:
    """Anything from nothing to the doubled base, never above the cap, and no overflow for the ten-thousandth."""
    assert 0 <= full_jitter(attempt, base=base, cap=cap) <= min(cap, base * 2.0 ** min(attempt - 1, 62))
    assert full_jitter(attempt, base=base, cap=cap, uniform=lambda low, _: low) == 0


def test_the_bound_of_the_jitter_doubles() -> None:
    """With the highest draw the waits are 1, 2, 4 and then the cap."""
    assert [full_jitter(n, base=1, cap=5, uniform=lambda _, high: high) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_retry_after_is_read_in_every_form() -> None:
    """Seconds, and HTTP-dates in their three forms, against the answer's own date."""
    sent = "Sun, 06 Nov 1994 08:49:30 GMT"
    assert parse_retry_after("120") == 120
    for form in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_retry_after(form, date=sent) == 7
    assert parse_retry_after(formatdate(1007, usegmt=True), now=lambda: 1000.0) == 7
    assert parse_retry_after(formatdate(900, usegmt=True), now=lambda: 1000.0) == 0


@given(st.text() | st.from_regex(r"[A-Za-z]{3}, \d+ [A-Za-z]{3} \d+ \d+:\d+:\d+ (GMT|[+-]\d+)"), st.none() | st.text())
def test_a_retry_after_that_says_nothing_asks_for_nothing(value: str, date: str | None) -> None:
    """Whatever a server writes there, the answer is a number of seconds."""
    assert parse_retry_after(value, date=date) >= 0


async def test_what_the_other_side_asks_for_is_waited_for_with_jitter_on_top(clock: Clock) -> None:
    """Nobody comes back early, and not all at the same moment."""
    call = Failing(Unavailable(retry_after=3.0), Unavailable(retry_after=0.0))
    assert await retry(call, idempotent=True, base=1, uniform=lambda _, high: high, sleep=clock.sleep) == "done"
    assert clock.slept == [4.0, 2.0]


# --- when to stop


async def test_three_attempts_and_then_the_last_error_as_it_was(clock: Clock) -> None:
    """The default; the fourth is never made."""
    errors = [ConnectionRefusedError(str(number)) for number in range(4)]
    call = Failing(*errors)
    with pytest.raises(ConnectionRefusedError) as raised:
        await retry(call, sleep=clock.sleep)
    assert (call.calls, raised.value) == (3, errors[2])


async def test_an_error_nobody_knows_is_raised_at_once() -> None:
    """A bug does not get better by repeating it."""
    call = Failing(ZeroDivisionError(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await retry(call, idempotent=True)
    assert call.calls == 1


@pytest.mark.parametrize(
    ("verdict", "idempotent", "calls"), [(UNKNOWN, False, 1), (UNKNOWN, True, 3), (SAFE, False, 3)]
)
async def test_what_may_have_happened_is_repeated_only_when_idempotent(
    clock: Clock, verdict: Verdict, idempotent: bool, calls: int
) -> None:
    """What certainly did not happen may always be."""
    call = Failing(*[ValueError()] * 3)
    with pytest.raises(ValueError):
        await retry(call, retryable=lambda _: verdict, idempotent=idempotent, sleep=clock.sleep)
    assert call.calls == calls


async def test_a_predicate_vouches_for_what_it_lets_pass(clock: Clock) -> None:
    """True is enough; what a problem asks for is waited for all the same."""
    call = Failing(RateLimited(retry_after=2.0))
    assert await retry(call, retryable=lambda _: True, uniform=no_jitter, sleep=clock.sleep) == "done"
    assert clock.slept == [2.0]


@given(
    granted=st.floats(0.01, 20), least=st.floats(0, 2), steps=st.lists(st.tuples(WAIT, WAIT), min_size=1, max_size=12)
)
def test_no_attempt_begins_that_cannot_end(granted: float, least: float, steps: list[tuple[float, float]]) -> None:
    """Whatever calls take and servers ask for: each attempt begins with `least` left, and no wait passes the end."""
    clock = Clock()
    began: list[float] = []
    plan = iter(steps)

    async def call() -> None:
        began.append(clock.now)
        taken, asked = next(plan, (0.0, 0.0))
        clock.now += taken
        raise Unavailable(retry_after=asked)

    async def scenario() -> None:
        with deadline.deadline_scope(granted), pytest.raises(Unavailable):
            await retry(call, idempotent=True, attempts=12, seconds=100, least=least, sleep=clock.sleep)

    end = clock.now + granted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: clock.now))
        asyncio.run(scenario())
    assert all(end - instant >= least - 1e-6 for instant in began[1:])
    assert sum(clock.slept) <= granted


async def test_nothing_is_called_when_time_is_up(clock: Clock) -> None:
    """Not even once; the error names the step."""
    call = Failing()
    with deadline.deadline_scope(1):
        clock.now += 2
        with pytest.raises(DeadlineExceeded) as exceeded:
            await retry(call, step="catalog.HoldStock")
        with pytest.raises(DeadlineExceeded):
            await retry(call)
    assert (call.calls, exceeded.value.extensions) == (0, {"step": "catalog.HoldStock"})


async def test_a_sleep_that_takes_too_long_is_not_followed_by_an_attempt(clock: Clock) -> None:
    """A loop that is late must not begin what cannot end."""

    async def oversleep(seconds: float) -> None:
        clock.now += seconds + 60

    call = Failing(ConnectionRefusedError())
    with pytest.raises(ConnectionRefusedError):
        await retry(call, sleep=oversleep)
    assert call.calls == 1


async def test_a_call_that_ignores_its_deadline_is_ended_and_named() -> None:
    """With a step, retry itself holds the deadline."""
    with pytest.raises(DeadlineExceeded) as exceeded:
        await retry(lambda: asyncio.Event().wait(), step="resend.send", seconds=0.01, least=0)
    assert exceeded.value.extensions == {"step": "resend.send"}


async def test_all_attempts_share_one_deadline(clock: Clock) -> None:
    """The second finds what the first has left."""
    left: list[float] = []

    async def call() -> None:
        left.append(deadline.remaining(100))
        clock.now += 2
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await retry(call, seconds=5, uniform=no_jitter, sleep=clock.sleep)
    assert left == pytest.approx([5, 3, 1])


async def test_a_cancelled_retry_stops_where_it_is() -> None:
    """In the call and in the wait between two; the attempt number does not leak."""
    waiting = asyncio.Event()

    async def forever(_seconds: float = 0.0) -> None:
        waiting.set()
        await asyncio.Event().wait()

    for call, sleep in ((forever, asyncio.sleep), (Failing(ConnectionRefusedError()), forever)):
        waiting.clear()
        task: asyncio.Task[Any] = asyncio.ensure_future(retry(call, sleep=sleep))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert previous_attempts() == 0


async def test_zero_attempts_are_refused() -> None:
    """A call that is never made has no answer."""
    with pytest.raises(ValueError, match="at least 1"):
        await retry(Failing(), attempts=0)


# --- the budget


@given(st.lists(st.booleans()), st.integers(1, 20), st.floats(0.001, 3))
def test_a_budget_follows_grpcs_rules(outcomes: list[bool], most: int, ratio: float) -> None:
    """One token for a failure, `ratio` for a success, never outside its bounds; above half retries are allowed."""
    budget, tokens = RetryBudget(most, ratio), float(most)
    for succeeded in outcomes:
        if succeeded:
            budget.succeeded()
            tokens = min(most, tokens + ratio)
        else:
            budget.failed()
            tokens = max(0.0, tokens - 1)
        assert budget.tokens == pytest.approx(tokens)
        assert budget.allows == (budget.tokens > most / 2)


async def test_a_storm_cannot_build(clock: Clock) -> None:
    """A thousand callers of a dependency that is down: a thousand calls and five retries, not three thousand."""
    budget = RetryBudget(10, 0.1)
    call = Failing(*[ConnectionRefusedError()] * 5000)
    results = await asyncio.gather(
        *(retry(call, budget=budget, uniform=no_jitter, sleep=clock.sleep, seconds=1e6) for _ in range(1000)),
        return_exceptions=True,
    )
    assert all(isinstance(result, ConnectionRefusedError) for result in results)
    assert 1000 < call.calls <= 1005


async def test_successes_earn_retries_back(clock: Clock) -> None:
    """Spent after five failures; ten successes later one more is allowed."""
    budget = RetryBudget(10, 0.1)

    async def outage() -> int:
        call = Failing(*[ConnectionRefusedError()] * 9)
        with pytest.raises(ConnectionRefusedError):
            await retry(call, attempts=9, budget=budget, sleep=clock.sleep)
        return call.calls

    assert [await outage(), await outage()] == [5, 1]
    for _ in range(30):
        await retry(Failing(), budget=budget)
    assert await outage() == 2


async def test_who_never_retries_has_no_say_in_the_budget() -> None:
    """A health check that asks a dead service every second must not take the retries of the others."""
    budget = RetryBudget(10)
    with pytest.raises(ConnectionRefusedError):
        await retry(Failing(ConnectionRefusedError()), attempts=1, budget=budget)
    assert budget.tokens == 10


async def test_a_peer_that_forbids_retries_is_one_that_is_overloaded() -> None:
    """Negative pushback is not tried again, and costs a token all the same (gRFC A6, "Throttling")."""
    budget = RetryBudget(10)
    call = Failing(*[from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1"))] * 3)
    with pytest.raises(grpc.aio.AioRpcError):
        await retry(call, budget=budget, idempotent=True)
    assert (call.calls, budget.tokens) == (1, 9)
    with pytest.raises(grpc.aio.AioRpcError):
        await retry(Failing(from_peer(grpc.StatusCode.NOT_FOUND)), budget=budget)
    assert budget.tokens == 9


# --- one layer


async def test_three_layers_do_not_multiply(clock: Clock) -> None:
    """Seven calls, not twenty-seven: what is below a second attempt makes one."""
    seen: list[int] = []

    async def bottom() -> None:
        seen.append(previous_attempts())
        raise ConnectionRefusedError

    def layered(below: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        return lambda: retry(below, sleep=clock.sleep)

    with pytest.raises(ConnectionRefusedError):
        await layered(layered(layered(bottom)))()
    assert seen == [0, 1, 2, 1, 2, 1, 2]
    assert previous_attempts() == 0


async def test_below_a_callers_second_attempt_there_is_one() -> None:
    """However many are allowed; the number goes on unchanged."""
    call = Failing(ConnectionRefusedError())
    with previous_attempts_scope(1), pytest.raises(ConnectionRefusedError):
        await retry(call, attempts=8)
    assert call.calls == 1


@pytest.mark.parametrize(
    ("value", "count"), [("2", 2), ("0", 0), (None, 0), ("", 0), ("-1", 0), ("x", 0), ("²", 0), ("99999", 0)]
)
def test_an_attempt_number_is_a_small_number_or_none(value: str | None, count: int) -> None:
    """It comes over the network."""
    assert parse_attempts(value) == count


async def test_each_retry_and_the_end_of_them_is_seen_in_the_trace(clock: Clock, spans: InMemorySpanExporter) -> None:
    """Events of the span that runs: which attempt, after which wait, for which error, and why it ended."""
    call = Failing(*[ConnectionRefusedError()] * 3)
    with telemetry.span("work"), pytest.raises(ConnectionRefusedError):
        await retry(call, base=1, uniform=lambda _, high: high, sleep=clock.sleep)
    (span,) = spans.get_finished_spans()
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("retry", {"attempt": 1, "wait": 1.0, "error.type": "ConnectionRefusedError"}),
        ("retry", {"attempt": 2, "wait": 2.0, "error.type": "ConnectionRefusedError"}),
        ("gave up", {"attempt": 3, "reason": "attempts", "error.type": "ConnectionRefusedError"}),
    ]


# --- what may be repeated


def caused(error: Exception, cause: BaseException) -> Exception:
    """`error`, as raised from `cause`."""
    error.__cause__ = cause
    return error


def answered(status: int, **headers: str) -> Exception:
    """Httpx' error for an answer."""
    request = httpx.Request("GET", "http://x.test")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, headers=named, request=request))


class Coded(stripe.StripeError):
    """An error of Stripe's with a code and a status."""

    def __init__(self, code: str | None, status: int, **headers: str) -> None:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        super().__init__("x", code=code, http_status=status, headers=named)


VERDICTS: list[tuple[Exception, Verdict]] = [
    (asyncpg.SerializationError("x"), SAFE),
    (asyncpg.DeadlockDetectedError("x"), SAFE),
    (asyncpg.CannotConnectNowError("x"), SAFE),
    (asyncpg.TooManyConnectionsError("x"), SAFE),
    (asyncpg.ReadOnlySQLTransactionError("x"), SAFE),
    (asyncpg.InterfaceError("cannot perform operation: connection is closed"), SAFE),
    (asyncpg.InterfaceError("pool is closing"), PERMANENT),
    (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), PERMANENT),
    (asyncpg.ConnectionDoesNotExistError("x"), UNKNOWN),
    (asyncpg.TransactionResolutionUnknownError("x"), UNKNOWN),
    (asyncpg.StatementCompletionUnknownError("x"), UNKNOWN),
    (asyncpg.AdminShutdownError("x"), UNKNOWN),
    (asyncpg.ProtocolViolationError("x"), PERMANENT),
    (asyncpg.UniqueViolationError("x"), PERMANENT),
    (asyncpg.QueryCanceledError("x"), PERMANENT),
    (redis_errors.ConnectionError("Error 111 connecting to 127.0.0.1:1."), SAFE),
    (redis_errors.TimeoutError("Timeout connecting to server"), SAFE),
    (redis_errors.ConnectionError("Connection closed by server."), UNKNOWN),
    (redis_errors.TimeoutError("Timeout reading from x"), UNKNOWN),
    (redis_errors.BusyLoadingError("x"), SAFE),
    (redis_errors.ReadOnlyError("x"), SAFE),
    (redis_errors.AuthenticationError("x"), PERMANENT),
    (redis_errors.ResponseError("x"), PERMANENT),
    (httpx.ConnectError("x"), SAFE),
    (httpx.ConnectTimeout("x"), SAFE),
    (httpx.PoolTimeout("x"), SAFE),
    (httpx.ReadTimeout("x"), UNKNOWN),
    (httpx.WriteError("x"), UNKNOWN),
    (httpx.RemoteProtocolError("x"), UNKNOWN),
    (httpx.UnsupportedProtocol("x"), PERMANENT),
    (answered(429, retry_after="7"), SAFE.waiting(7)),
    (answered(503, retry_after="7"), UNKNOWN.waiting(7)),
    (
        answered(503, date="Sun, 06 Nov 1994 08:49:30 GMT", retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        UNKNOWN.waiting(7),
    ),
    (answered(502), UNKNOWN),
    (answered(500), PERMANENT),
    (answered(404, retry_after="7"), PERMANENT),
    (stripe.APIConnectionError("x"), UNKNOWN),  # type: ignore[no-untyped-call]
    (stripe.RateLimitError("x", http_status=429), SAFE),
    (Coded("lock_timeout", 409), SAFE),
    (Coded(None, 409), UNKNOWN),
    (Coded("parameter_invalid", 400), PERMANENT),
    (stripe.APIError("x", http_status=503), UNKNOWN),
    (stripe.APIError("x", http_status=500, headers={"Stripe-Should-Retry": "false"}), PERMANENT),
    (stripe.APIError("x", http_status=500, headers={"Idempotent-Replayed": "true"}), PERMANENT),
    (Coded("card_declined", 402, stripe_should_retry="true", retry_after="7"), UNKNOWN.waiting(7)),
    (Coded("card_declined", 402), PERMANENT),
    (from_peer(grpc.StatusCode.UNAVAILABLE), UNKNOWN),
    (from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "7000")), UNKNOWN.waiting(7)),
    (from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1")), PUSHED_BACK),
    (from_peer(grpc.StatusCode.NOT_FOUND, ("grpc-retry-pushback-ms", "soon")), PUSHED_BACK),
    (from_peer(grpc.StatusCode.RESOURCE_EXHAUSTED), PERMANENT),
    (from_peer(grpc.StatusCode.NOT_FOUND), PERMANENT),
    (grpc.aio.UsageError("x"), PERMANENT),
    (ConnectionRefusedError(), SAFE),
    (ConnectionResetError(), UNKNOWN),
    (TimeoutError(), UNKNOWN),
    (FileNotFoundError(), PERMANENT),
    (Unavailable(retry_after=2), UNKNOWN.waiting(2)),
    (caused(Unavailable(retry_after=2), asyncpg.CannotConnectNowError("x")), SAFE.waiting(2)),
    (caused(Unavailable(retry_after=2), asyncpg.ConnectionDoesNotExistError("x")), UNKNOWN.waiting(2)),
    (caused(Conflict(), asyncpg.SerializationError("x")), PERMANENT),
    (caused(CacheUnavailable("x"), redis_errors.ReadOnlyError("x")), SAFE),
    (DeadlineExceeded("x"), PERMANENT),
    (Internal(), PERMANENT),
    (Overloaded(), PERMANENT),
]


@pytest.mark.parametrize(("error", "verdict"), VERDICTS, ids=lambda value: repr(value)[:60])
def test_each_kind_of_failure_has_its_verdict(error: Exception, verdict: Verdict) -> None:
    """Safe, unknown or permanent, and how long to stay away."""
    found = classify(error)
    assert found.again is verdict.again
    assert found.after == pytest.approx(verdict.after)


def test_the_library_needs_none_of_what_it_classifies() -> None:
    """In a process where none of them can be imported, retry and classify work."""
    program = (
        "import sys\n"
        "for name in ('stripe', 'httpx', 'redis', 'asyncpg', 'grpc'): sys.modules[name] = None\n"
        "from reliability.retry import PERMANENT, SAFE, classify\n"
        "assert classify(ValueError()) == PERMANENT and classify(ConnectionRefusedError()) == SAFE\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- the same with real servers and a network that fails


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_commit_whose_reply_is_lost_is_repeated_only_when_idempotent(
    distant: Distant, clock: Clock, idempotent: bool
) -> None:
    """The row is there, and nobody told us. Repeating an insert that is not idempotent would make two."""
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        async with distant.database.transaction() as connection:
            await connection.execute("INSERT INTO notes VALUES ($1)", f"attempt {attempts}")

    distant.proxy.drop_reply(b"COMMIT")
    if idempotent:
        await retry(work, idempotent=True, sleep=clock.sleep)
    else:
        with pytest.raises(Unavailable):
            await retry(work, sleep=clock.sleep)
    assert await distant.notes() == ["attempt 1", "attempt 2"][: 1 + idempotent]


async def test_a_transaction_the_server_undid_is_begun_again(distant: Distant, clock: Clock) -> None:
    """Two serializable transactions that cannot both be: the second attempt of one finds the other's row."""
    attempts = 0

    async def count_and_note() -> None:
        nonlocal attempts
        attempts += 1
        async with distant.database.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            seen = await connection.fetchval("SELECT count(*) FROM notes")
            if attempts == 1:
                await asyncio.create_task(other())
            await connection.execute("INSERT INTO notes VALUES ($1)", f"after {seen}")

    async def other() -> None:
        connection = await asyncpg.connect(distant.proxy.through(distant.near._url))
        async with connection.transaction(isolation="serializable"):
            await connection.fetchval("SELECT count(*) FROM notes")
            await connection.execute("INSERT INTO notes VALUES ('other')")
        await connection.close()

    await retry(count_and_note, sleep=clock.sleep)
    assert attempts == 2
    assert await distant.notes() == ["after 1", "other"]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_an_incr_whose_reply_is_lost_counts_once_unless_it_is_called_idempotent(
    distant_cache: DistantCache, clock: Clock, idempotent: bool
) -> None:
    """redis-py's own retry would count twice."""
    await distant_cache.cache.ready()

    async def count() -> int:
        return int(await distant_cache.cache.run("count", lambda client: client.incr("n")))

    distant_cache.proxy.drop_reply(b"INCR")
    if idempotent:
        assert await retry(count, idempotent=True, sleep=clock.sleep) == 2
    else:
        with pytest.raises(CacheUnavailable):
            await retry(count, sleep=clock.sleep)
        assert await distant_cache.near.client.get("n") == b"1"


async def test_a_redis_that_is_not_there_was_never_asked(clock: Clock) -> None:
    """Refused on connecting: safe to try again, whatever it was."""
    away = Cache("redis://127.0.0.1:1/0")
    calls = 0

    async def count() -> None:
        nonlocal calls
        calls += 1
        await away.run("count", lambda client: client.incr("n"))

    with pytest.raises(CacheUnavailable):
        await retry(count, sleep=clock.sleep)
    assert calls == 3
    await away.close()


async def test_an_http_server_that_says_when_is_asked_again_then(clock: Clock) -> None:
    """503 with Retry-After, then an answer."""
    answers = iter([httpx.Response(503, headers={"retry-after": "2"}), httpx.Response(200, text="done")])
    transport = httpx.MockTransport(lambda _: next(answers))
    async with httpx.AsyncClient(transport=transport, base_url="http://x.test") as client:

        async def get() -> str:
            return (await client.get("/")).raise_for_status().text

        assert await retry(get, idempotent=True, uniform=no_jitter, sleep=clock.sleep) == "done"
    assert clock.slept == [2.0]
