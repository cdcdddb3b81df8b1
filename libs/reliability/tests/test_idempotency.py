"""Keys over gRPC, how long they are kept, and what happens to them when an attempt ends in any way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import StringValue

from deploy.local.ports import HOST
from libs.reliability.tests.support import sql
from reliability import idempotency, rpc
from reliability.errors import IdempotencyInProgress, Problem
from reliability.idempotency import Claim, Key, Replay, claim, purge
from reliability.ids import new_id
from reliability.postgres import Database
from reliability.rpc import client

METHOD = "/shop.Shop/Order"


class Shop:
    """Takes orders over gRPC as a service does: the key in the first transaction, the answer with the effect."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.orders = 0
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.stores: Any = None

    async def order(self, request: StringValue, _context: Any) -> StringValue:
        """One order per key."""
        async with self.database.transaction() as connection:
            held = await claim(connection, "customer")
        self.inside.set()
        await self.go_on.wait()
        self.orders += 1
        answer = StringValue(value=f"{request.value} {self.orders}")
        async with self.database.transaction() as connection:
            await held.store(connection, 200, self.stores or answer)
        return answer


class Counter:
    """The shop as its customers reach it: no certificates, so `Edge` guards without access rules."""

    def __init__(self, shop: Shop, channel: grpc.aio.Channel) -> None:
        self.shop = shop
        self.method: Any = channel.unary_unary(
            METHOD, request_serializer=StringValue.SerializeToString, response_deserializer=StringValue.FromString
        )

    async def order(self, text: str, key: str | None, **options: Any) -> str:
        """What a client of ours sends."""
        step = f"{new_id()}.Order"
        answer = await rpc.invoke(self.method, StringValue(value=text), step=step, key=key, **options)
        return str(answer.value)


@pytest_asyncio.fixture(loop_scope="session")
async def counter(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter]:
    """A shop that is open."""
    monkeypatch.setattr(client, "_BACKOFF_BASE", 0.001)
    shop = Shop(database)
    handler = grpc.unary_unary_rpc_method_handler(shop.order, StringValue.FromString, StringValue.SerializeToString)
    server = grpc.aio.server(interceptors=[rpc.Edge()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", {"Order": handler}),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        yield Counter(shop, channel)
    await server.stop(0)


# --- over gRPC


async def test_the_same_call_is_answered_with_the_same_message(counter: Counter) -> None:
    """Done once, and the second answer says that it is the first one again."""
    assert [await counter.order("tea", "k-1") for _ in range(3)] == ["tea 1"] * 3
    assert counter.shop.orders == 1
    call = counter.method(StringValue(value="tea"), metadata=((rpc.IDEMPOTENCY_KEY, '"k-1"'),))
    assert (await call).value == "tea 1"
    assert (rpc.REPLAYED, "true") in tuple(await call.trailing_metadata())


async def test_without_a_key_every_call_is_its_own(counter: Counter) -> None:
    """As over HTTP; and other keys are other orders."""
    keys = (None, None, "k-1", "k-2")
    assert [await counter.order("tea", key) for key in keys] == ["tea 1", "tea 2", "tea 3", "tea 4"]


async def test_a_key_is_bound_to_what_was_asked(counter: Counter) -> None:
    """Another request under it is 422, and a key that is none is 400."""
    await counter.order("tea", "k-1")
    for text, key, code, status in (
        ("rum", "k-1", "idempotency_key_reused", 422),
        ("tea", "no key", "idempotency_key_invalid", 400),
    ):
        with pytest.raises(Problem) as refused:
            await counter.order(text, key)
        assert (refused.value.code, refused.value.status) == (code, status)
    assert counter.shop.orders == 1


async def test_a_call_while_the_first_is_running_is_told_to_come_back_and_then_gets_its_answer(
    counter: Counter,
) -> None:
    """`ABORTED` with the seconds to wait; a client of ours waits by itself."""
    counter.shop.go_on.clear()
    first = asyncio.create_task(counter.order("tea", "k-1"))
    await counter.shop.inside.wait()
    with pytest.raises(Problem) as running:
        await counter.order("tea", "k-1", attempts=1)
    assert (running.value.code, running.value.status) == ("idempotency_in_progress", 409)
    assert 1 <= (running.value.retry_after or 0) <= 5
    counter.shop.go_on.set()
    assert await first == await counter.order("tea", "k-1") == "tea 1"


async def test_an_answer_stored_as_json_is_not_sent_as_a_message(counter: Counter) -> None:
    """The servicer has to make its message of it; guessing would send anything."""
    counter.shop.stores = {"id": 1}
    await counter.order("tea", "k-1")
    with pytest.raises(Problem) as internal:
        await counter.order("tea", "k-1")
    assert internal.value.code == "internal"
    assert counter.shop.orders == 1


# --- how attempts end


KEY = Key("POST /pay", "k-1", "fp-1")


async def attempt(database: Database, **options: Any) -> Claim:
    """The first phase of a request."""
    idempotency.current.set(KEY)
    async with database.transaction() as connection:
        return await claim(connection, "client", **options)


async def test_a_released_key_is_resumed_at_once(database: Database) -> None:
    """From its recovery point, without waiting for the end of the lease."""
    first = await attempt(database)
    async with database.transaction() as connection:
        await first.advance(connection, "charged", charge="ch_1")
    with pytest.raises(IdempotencyInProgress):
        await attempt(database)
    async with database.transaction() as connection:
        await first.release(connection)
    second = await attempt(database)
    assert (second.recovery_point, second.data) == ("charged", {"charge": "ch_1"})


async def test_a_forgotten_key_is_new(database: Database) -> None:
    """And only its owner can drop it."""
    first = await attempt(database, lease_seconds=-1)
    second = await attempt(database)
    async with database.transaction() as connection:
        await first.forget(connection)
    with pytest.raises(IdempotencyInProgress):
        await attempt(database)
    async with database.transaction() as connection:
        await second.advance(connection, "charged")
        await second.forget(connection)
    assert (await attempt(database)).recovery_point == idempotency.STARTED


async def test_without_a_key_nothing_is_stored(database: Database) -> None:
    """Every method of such a claim does nothing."""
    idempotency.current.set(None)
    async with database.transaction() as connection:
        free = await claim(connection, "client")
        await free.advance(connection, "charged", charge="ch_1")
        await free.store(connection, 200, {})
        await free.release(connection)
        await free.forget(connection)
        assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    assert (free.recovery_point, free.data) == ("charged", {"charge": "ch_1"})


async def test_an_answer_without_a_body_is_replayed_without_one(database: Database) -> None:
    """A 204 stays a 204."""
    first = await attempt(database)
    async with database.transaction() as connection:
        await first.store(connection, 204, None)
    with pytest.raises(Replay) as replay:
        await attempt(database)
    assert (replay.value.status, replay.value.body) == (204, b"")


# --- how long they are kept


async def test_each_policy_keeps_its_keys_as_long_as_it_says(database: Database) -> None:
    """A day unless it says otherwise."""
    for hours, options in ((24, {}), (1.5, {"retention_hours": 1.5}), (720, {"retention_hours": 720})):
        await attempt(database, **options)
        async with database.connection() as connection:
            kept = await connection.fetchval(
                "SELECT extract(epoch FROM expires_at - now())::float8 FROM idempotency_keys"
            )
        assert kept == pytest.approx(hours * 3600, abs=60)
        await sql(database, "DELETE FROM idempotency_keys")


async def test_a_key_past_retention_is_new_for_whatever_is_asked(database: Database) -> None:
    """Also before it is purged; one whose attempt is running is neither new nor purged."""
    first = await attempt(database, retention_hours=-1)
    with pytest.raises(IdempotencyInProgress):
        await attempt(database)
    async with database.transaction() as connection:
        assert await purge(connection) == 0
        await first.store(connection, 200, {})
    idempotency.current.set(Key(KEY.route, KEY.value, "fp-2"))
    async with database.transaction() as connection:
        again = await claim(connection, "client", retention_hours=-1)
        assert again.recovery_point == idempotency.STARTED
        await again.release(connection)
        assert await purge(connection) == 1


# A statement of somebody who writes an order together with its key: the order is there when the key was free.
ORDER_AT_ONCE = f"""
WITH shop AS (SELECT 'o-1' AS id WHERE $7),
claimed AS ({idempotency.claiming(1, "shop", "ordered", "jsonb_build_object('order', id)")})
SELECT id FROM shop WHERE EXISTS (SELECT FROM claimed)
"""


async def _at_once(database: Database, held: Claim, *, open_: bool = True, **kept: float) -> Any:
    async with database.connection() as connection:
        return await connection.fetchval(ORDER_AT_ONCE, *held.claimed(**kept), open_)


def _fresh() -> Claim:
    held = idempotency.fresh("customer")
    assert held is not None
    return held


async def _used(database: Database, held: Claim) -> Any:
    async with database.connection() as connection:
        return await connection.fetchval(f"SELECT {idempotency.used(1)}", held.scope, held.key)


async def test_a_key_claimed_by_the_statement_it_is_for(database: Database) -> None:
    """It is taken, at its recovery point, as `claim` and `advance` would have left it; a second one gets nothing."""
    assert idempotency.fresh("customer") is None  # a request without a key
    token = idempotency.current.set(Key("/orders", new_id(), "of the body"))
    try:
        first, second = _fresh(), _fresh()
        assert not await _used(database, first)
        assert await _at_once(database, first, open_=False) is None
        assert not await _used(database, first)
        assert await _at_once(database, first) == "o-1"
        assert await _used(database, second)
        assert await _at_once(database, second) is None
        async with database.transaction() as connection:
            with pytest.raises(IdempotencyInProgress):
                await claim(connection, "customer")
            await first.release(connection)
        async with database.transaction() as connection:
            resumed = await claim(connection, "customer")
            assert (resumed.recovery_point, resumed.data) == ("ordered", {"order": "o-1"})
            await resumed.store(connection, 201, {"order": "o-1"})
        async with database.transaction() as connection:
            with pytest.raises(Replay):
                await claim(connection, "customer")
    finally:
        idempotency.current.reset(token)


async def test_a_key_claimed_at_once_by_many(database: Database) -> None:
    """One of them."""
    token = idempotency.current.set(Key("/orders", new_id(), "of the body"))
    try:
        made = await asyncio.gather(*(_at_once(database, _fresh(), lease_seconds=5.0) for _ in range(6)))
        assert sorted(map(str, made)) == ["None"] * 5 + ["o-1"]
    finally:
        idempotency.current.reset(token)
