"""The second click: one runs, the others are told to wait, and only the owner of a key gives it back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from libs.reliability.tests.support import DistantCache, eventually
from reliability import deadline, dedup
from reliability.dedup import Claim, deduplicate, deduplicated
from reliability.errors import DuplicateRequest
from reliability.fingerprint import fingerprint
from reliability.redis import Cache
from reliability.tally import Tally
from reliability.testing import FaultProxy

if TYPE_CHECKING:
    from conftest import Servers

T = TypeVar("T")
# Nothing listens on port 1: a Redis that is away.
NOWHERE = "redis://127.0.0.1:1/0"
PAYLOAD = {"campaign": 1}


class Outcomes:
    """What was counted, by operation and outcome."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reader = InMemoryMetricReader()
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "get_meter", MeterProvider([self._reader]).get_meter)
            fresh = Tally("outcomes", "Outcomes", ["operation", "outcome"])
        monkeypatch.setattr(dedup, "_outcomes", fresh)

    def seen(self) -> dict[str, int]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        return {str((point.attributes or {})["outcome"]): int(getattr(point, "value", 0)) for point in points}


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Outcomes:
    return Outcomes(monkeypatch)


@pytest_asyncio.fixture(loop_scope="session")
async def crowded(servers: "Servers", cache: Cache, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    """A cache for a thousand callers at once, on a machine that may be slow."""
    monkeypatch.setattr(deadline, "CACHE_CAP", 60.0)
    crowded = Cache(servers.endpoints.redis, socket_timeout=60.0)
    yield crowded
    await crowded.close()


async def click(cache: Cache, payload: Any = None, *, ttl: int = 60, user: str | None = None) -> bool:
    """Whether the operation ran."""
    try:
        async with deduplicate(cache, "send", PAYLOAD if payload is None else payload, user=user, ttl=ttl):
            await asyncio.sleep(0)
    except DuplicateRequest:
        return False
    return True


async def held(cache: Cache, payload: Any = None) -> str | None:
    """The token in the key."""
    value = await cache.client.get(f"dedup:send:{fingerprint('send', payload or PAYLOAD)}")
    return value.decode() if isinstance(value, bytes) else value


async def test_identical_data_is_one_request_and_other_data_another(cache: Cache) -> None:
    """New is allowed, the same again is blocked, however its keys are ordered; anything else is allowed."""
    assert await click(cache, {"a": 1, "b": 2})
    assert not await click(cache, {"b": 2, "a": 1.0})
    assert await click(cache, {"a": 1, "b": 3})
    assert await click(cache, {"a": 1})


@pytest.mark.parametrize("at_once", [5, 20])
async def test_of_many_at_once_one_runs(cache: Cache, at_once: int) -> None:
    """Five successive and twenty simultaneous clicks, ten times over: always exactly one."""
    for round_ in range(10):
        ran = await asyncio.gather(*(click(cache, {"round": round_}) for _ in range(at_once)))
        assert sorted(ran) == [False] * (at_once - 1) + [True]


async def test_of_a_thousand_at_once_one_runs(crowded: Cache, outcomes: Outcomes) -> None:
    """Nine hundred and ninety-nine are blocked, and each is counted."""
    ran = await asyncio.gather(*(click(crowded) for _ in range(1000)))
    assert ran.count(True) == 1
    assert outcomes.seen() == {"allowed": 1, "blocked": 999}


async def test_a_thousand_requests_of_their_own_all_run(crowded: Cache) -> None:
    """Nobody waits for somebody else's key."""
    assert all(await asyncio.gather(*(click(crowded, {"n": n}) for n in range(1000))))


async def test_the_window_ends(cache: Cache) -> None:
    """Blocked until the key expires, then allowed again; being blocked does not make it longer."""
    assert await click(cache, ttl=1)
    assert not await click(cache, ttl=1)

    async def allowed() -> bool:
        return await click(cache, ttl=1)

    await eventually(allowed)


async def test_the_window_is_a_minute_and_the_refusal_says_how_long(cache: Cache) -> None:
    """429 with whole seconds."""
    assert await click(cache)
    with pytest.raises(DuplicateRequest) as blocked:
        async with deduplicate(cache, "send", PAYLOAD):
            pytest.fail("ran twice")
    assert blocked.value.status == 429
    assert blocked.value.retry_after in {59, 60}


async def test_users_do_not_block_one_another_unless_the_scope_is_everybody(cache: Cache) -> None:
    """The same data by Ann, by Bob, and by whoever."""
    assert await click(cache, user="ann")
    assert await click(cache, user="bob")
    assert not await click(cache, user="ann")
    assert await click(cache)
    assert not await click(cache)


async def test_operations_do_not_block_one_another(cache: Cache) -> None:
    """The same data, sent and cancelled."""
    assert await click(cache)
    async with deduplicate(cache, "cancel", PAYLOAD):
        pass


async def test_changing_the_payload_inside_changes_nothing(cache: Cache) -> None:
    """The key is that of the data as it came: it is blocked by it, and given back under it."""
    payload: dict[str, Any] = {"lines": [{"sku": "a", "quantity": 1}]}
    for fails in (True, False):
        try:
            async with deduplicate(cache, "send", payload):
                payload["lines"][0]["quantity"] = 2
                payload["lines"].append("b")
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        payload = {"lines": [{"sku": "a", "quantity": 1}]}
    assert not await click(cache, payload)


async def test_each_block_is_logged_and_counted(cache: Cache, outcomes: Outcomes) -> None:
    """With the operation and the seconds left, and nothing of the payload."""
    await click(cache, {"card": "4242424242424242"})
    with capture_logs() as lines:
        await click(cache, {"card": "4242424242424242"})
        await click(cache, {"card": "4242424242424242"})
    assert [(line["event"], line["operation"]) for line in lines] == [("duplicate_blocked", "send")] * 2
    assert all(0 < line["retry_after"] <= 60 for line in lines)
    assert "4242" not in str(lines)
    assert outcomes.seen() == {"allowed": 1, "blocked": 2}


async def test_a_key_that_would_never_expire_is_given_an_end(cache: Cache) -> None:
    """Somebody made it persistent: it would block for ever."""
    await click(cache)
    key = f"dedup:send:{fingerprint('send', PAYLOAD)}"
    await cache.client.persist(key)
    assert not await click(cache)
    assert 0 < await cache.client.ttl(key) <= 60


async def test_a_block_does_not_move_the_end(cache: Cache) -> None:
    """Clicking on does not lock anybody out for longer."""
    await click(cache, ttl=10)
    await click(cache, ttl=60)
    assert await cache.client.ttl(f"dedup:send:{fingerprint('send', PAYLOAD)}") <= 10


@pytest.mark.parametrize("effect", [False, True])
async def test_a_failure_gives_the_key_back_unless_something_has_happened(cache: Cache, effect: bool) -> None:
    """What left nothing behind may be tried at once; what did may not."""
    with pytest.raises(ZeroDivisionError):
        async with deduplicate(cache, "send", PAYLOAD) as claim:
            if effect:
                claim.effect()
            raise ZeroDivisionError
    assert await click(cache) is not effect


async def test_a_key_that_changed_hands_is_not_given_back_by_its_first_owner(cache: Cache) -> None:
    """The window of the first is over, the second runs, then the first fails: the third is still blocked."""
    first, second = deduplicate(cache, "send", PAYLOAD), deduplicate(cache, "send", PAYLOAD)
    await first.__aenter__()
    await cache.client.flushall()  # as if its minute were over
    await second.__aenter__()
    await first.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert not await click(cache)
    await second.__aexit__(None, None, None)


async def test_a_cancelled_operation_gives_the_key_back_however_often_it_is_cancelled(cache: Cache) -> None:
    """Also when its connection has to be made first, and the next cancellation comes meanwhile."""
    inside = asyncio.Event()

    async def work() -> None:
        async with deduplicate(cache, "send", PAYLOAD):
            await cache.client.connection_pool.disconnect()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await held(cache) is None


async def test_whoever_is_cancelled_before_redis_answered_leaves_no_key_behind(distant_cache: DistantCache) -> None:
    """It was set, nobody heard of it and nothing ran under it: the next click is no second one."""
    assert await click(distant_cache.cache, "warm")
    distant_cache.proxy.hang(b"dedup:send")
    clicking = asyncio.create_task(click(distant_cache.cache))
    await distant_cache.proxy.seen(b"dedup:send", 2)
    clicking.cancel()
    distant_cache.proxy.forward()
    with pytest.raises(asyncio.CancelledError):
        await clicking
    assert await held(distant_cache.near) is None


async def test_a_failure_because_time_is_up_gives_the_key_back(cache: Cache) -> None:
    """The request's deadline has passed; the key must not wait for its minute."""
    with deadline.deadline_scope(0.05), pytest.raises(TimeoutError):
        async with deduplicate(cache, "send", PAYLOAD), asyncio.timeout(deadline.remaining(8)):
            await asyncio.Event().wait()
    assert await click(cache)


async def test_a_lost_reply_is_recognised_as_our_own(distant_cache: DistantCache, outcomes: Outcomes) -> None:
    """The key was set and nobody heard of it: the same click is let in, the next is blocked."""
    distant_cache.proxy.drop_reply(b"dedup:send")
    assert await click(distant_cache.cache)
    assert distant_cache.proxy.count(b"dedup:send") == 2
    assert outcomes.seen() == {"allowed": 1}
    assert not await click(distant_cache.near)


async def test_after_a_lost_reply_a_failure_still_gives_the_key_back(distant_cache: DistantCache) -> None:
    """The token that was recognised is the one that releases."""
    distant_cache.proxy.drop_reply(b"dedup:send")
    with pytest.raises(ZeroDivisionError):
        async with deduplicate(distant_cache.cache, "send", PAYLOAD):
            assert await held(distant_cache.near)
            raise ZeroDivisionError
    assert await held(distant_cache.near) is None


async def test_a_lost_reply_does_not_let_a_second_click_in(distant_cache: DistantCache) -> None:
    """Its reply would have said no, and asking again says so too."""
    assert await click(distant_cache.near)
    distant_cache.proxy.drop_reply(b"dedup:send")
    assert not await click(distant_cache.cache)


async def test_a_lost_count_of_seconds_is_still_a_block(distant_cache: DistantCache) -> None:
    """Blocked, and nobody knows for how long: the whole window is told."""
    assert await click(distant_cache.near)
    distant_cache.proxy.drop_reply(b"TTL")
    with pytest.raises(DuplicateRequest) as blocked:
        async with deduplicate(distant_cache.cache, "send", PAYLOAD, ttl=30):
            pytest.fail("ran twice")
    assert blocked.value.retry_after == 30


async def test_a_connection_that_was_cut_is_made_again(distant_cache: DistantCache, outcomes: Outcomes) -> None:
    """Idle connections die with a restart or a firewall; the guard is not lost with them."""
    assert await click(distant_cache.cache, {"n": 1})
    distant_cache.proxy.cut()
    assert await click(distant_cache.cache)
    assert not await click(distant_cache.near)
    assert outcomes.seen() == {"allowed": 2, "blocked": 1}


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_without_redis_the_operation_runs_and_that_is_counted(
    distant_cache: DistantCache, outcomes: Outcomes, fault: str
) -> None:
    """Away or silent: the guard is the fast path, and the database carries the promise."""
    getattr(distant_cache.proxy, fault)()
    assert await click(distant_cache.cache)
    assert await click(distant_cache.cache)
    assert outcomes.seen() == {"unguarded": 2}


async def test_a_decorated_function_runs_once_for_the_same_arguments(cache: Cache) -> None:
    """By position or by name; the wrapper keeps the name and hands the result on."""
    sent: list[tuple[str, bool]] = []

    @deduplicated(cache, "send")
    async def send(campaign: str, *, test: bool = False) -> int:
        """Sends it."""
        sent.append((campaign, test))
        return len(sent)

    assert await send("spring") == 1
    for again in (send("spring"), send(campaign="spring"), send("spring", test=False)):
        with pytest.raises(DuplicateRequest):
            await again
    assert await send("spring", test=True) == 2
    assert await send("summer") == 3
    assert sent == [("spring", False), ("spring", True), ("summer", False)]
    assert (send.__name__, send.__doc__) == ("send", "Sends it.")


async def test_a_decorated_function_may_name_its_payload_and_its_user(cache: Cache) -> None:
    """What does not matter is left out, and each user has windows of their own."""
    ran = []

    @deduplicated(cache, "send", payload=lambda campaign, _staff, _note: campaign, user=lambda _c, staff, _n: staff)
    async def send(campaign: str, staff: str, note: str) -> None:
        ran.append((campaign, staff, note))

    await send("spring", "ann", "first")
    with pytest.raises(DuplicateRequest):
        await send("spring", "ann", "second")
    await send("spring", "bob", "third")
    assert [note for _, _, note in ran] == ["first", "third"]


async def test_a_decorated_function_that_fails_may_be_called_again(cache: Cache) -> None:
    """Nothing has happened, as far as anybody said."""
    attempts = 0

    @deduplicated(cache, "send")
    async def send() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await send()
    await send()
    assert attempts == 2


@dataclass(eq=False)
class Run:
    """Somebody inside a guarded block."""

    claim: Claim
    key: str


class Owners(RuleBasedStateMachine):
    """Claims, failures, ends of windows and lost replies in any order, against who should own each key."""

    url: str
    runs = Bundle("runs")
    keys = st.sampled_from(["spring", "summer"])

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.owners: dict[str, Run] = {}
        self.near = Cache(self.url)
        self.proxy = FaultProxy.before(self.url)
        self.do(self.proxy.__aenter__())
        self.distant: list[Cache] = []
        self.do(self.near.client.flushall())

    def do(self, step: Awaitable[T]) -> T:
        return self.loop.run_until_complete(step)

    async def enter(self, cache: Cache, key: str) -> Run | None:
        run = Run(deduplicate(cache, "send", key), key)
        try:
            await run.claim.__aenter__()
        except DuplicateRequest:
            return None
        return run

    @rule(target=runs, key=keys, lost=st.booleans())
    def click(self, key: str, lost: bool) -> Run | None:
        """Runs when and only when nobody owns the key, also when the first reply is lost."""
        # A cache of its own for each: after three lost replies in a minute, its breaker would spare it the fourth.
        self.distant.append(Cache(self.proxy.through(self.url)))
        if lost:
            self.proxy.drop_reply(b"dedup:send")
        run = self.do(self.enter(self.distant[-1], key))
        assert (run is None) is (key in self.owners)
        if run:
            self.owners[key] = run
        return run

    @rule(key=keys)
    def three_clicks_at_once(self, key: str) -> None:
        """At most one gets in; it fails, so that all is as before."""

        async def race() -> int:
            entered = [run for run in await asyncio.gather(*(self.enter(self.near, key) for _ in range(3))) if run]
            for run in entered:
                await run.claim.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
            return len(entered)

        assert self.do(race()) == (0 if key in self.owners else 1)

    @rule(run=consumes(runs), effect=st.booleans(), fails=st.booleans())
    def leave(self, run: Run | None, effect: bool, fails: bool) -> None:
        """Frees the key when it failed before any effect and still owns it."""
        if run is None:
            return
        if effect:
            run.claim.effect()
        kind = ZeroDivisionError if fails else None
        self.do(run.claim.__aexit__(kind, kind() if kind else None, None))
        if fails and not effect and self.owners.get(run.key) is run:
            del self.owners[run.key]

    @rule(key=keys)
    def the_window_ends(self, key: str) -> None:
        """The key expires, whatever its owner is doing."""
        self.do(self.near.client.delete(f"dedup:send:{fingerprint('send', key)}"))
        self.owners.pop(key, None)

    @invariant()
    def the_server_knows_the_one_owner(self) -> None:
        """The token in Redis is that of whoever should own the key, and it has an end."""
        for key in ("spring", "summer"):
            name = f"dedup:send:{fingerprint('send', key)}"
            token = self.do(self.near.client.get(name))
            ttl = self.do(self.near.client.ttl(name))
            owner = self.owners.get(key)
            assert token == (owner and owner.claim._owner.encode())
            assert owner is None or 0 < ttl <= 60

    def teardown(self) -> None:
        for cache in (self.near, *self.distant):
            self.do(cache.close())
        self.do(self.proxy.__aexit__(None, None, None))
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.do(asyncio.sleep(0))
        self.loop.close()


def test_a_key_never_has_two_owners(servers: "Servers") -> None:
    """Whatever happens in whatever order."""

    class Here(Owners):
        url = servers.endpoints.redis

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
