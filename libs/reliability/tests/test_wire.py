"""Many calls on one connection: each gets its own answer, whatever becomes of the others."""

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from libs.reliability.tests.support import DistantCache
from reliability.circuit_breaker import State
from reliability.deadline import deadline_scope
from reliability.errors import DeadlineExceeded
from reliability.redis import Cache, CacheUnavailable, Script

if TYPE_CHECKING:
    from conftest import Servers

asker: ContextVar[str] = ContextVar("asker", default="nobody")
ECHO = Script("return {KEYS[1], ARGV[1]}")


async def echo(cache: Cache, text: str) -> bool:
    """Whether what came back is what was sent."""
    answer: bytes = await cache.call("echo", ("ECHO", text))
    return answer == text.encode()


async def test_each_of_a_crowd_gets_its_own_answer_on_one_connection(cache: Cache) -> None:
    """A thousand at once, commands and scripts mixed; and no second connection."""
    before = len(await cache.client.client_list())
    answers = await asyncio.gather(*(echo(cache, f"text {n}") for n in range(1000)))
    pairs = await asyncio.gather(*(cache.script("pair", ECHO, [f"key {n}"], [n]) for n in range(100)))
    assert all(answers)
    assert pairs == [[f"key {n}".encode(), str(n).encode()] for n in range(100)]
    assert len(await cache.client.client_list()) <= before + 1


async def test_commands_of_one_call_are_answered_together(cache: Cache) -> None:
    """In their order, however many others are in between."""
    others = asyncio.gather(*(echo(cache, f"text {n}") for n in range(50)))
    assert await cache.call("two", ("ECHO", "a"), ("ECHO", "b")) == [b"a", b"b"]
    assert all(await others)


async def test_the_answer_of_a_call_that_gave_up_goes_to_nobody(distant_cache: DistantCache) -> None:
    """Cancelled or out of time: it keeps its place in the line, and the next call is not told its answer."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    assert await echo(cache, "first")
    proxy.hang(b"cancelled")
    cancelled = asyncio.create_task(echo(cache, "cancelled"))
    await proxy.seen(b"cancelled", 1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with deadline_scope(0.02), pytest.raises(CacheUnavailable):
        await echo(cache, "late")
    proxy.forward()
    assert all(await asyncio.gather(*(echo(cache, f"text {n}") for n in range(20))))
    assert cache.breaker.state is State.CLOSED


async def test_a_silent_server_fails_all_that_wait_and_is_dialled_anew(distant_cache: DistantCache) -> None:
    """Whoever was sent is told at once, and what the old connection still answers is heard by nobody."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    assert await echo(cache, "first")
    proxy.hang()
    failed = await asyncio.gather(*(echo(cache, f"lost {n}") for n in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [CacheUnavailable] * 2
    # by the silence, and not each by the end of its own time
    assert [type(error.__cause__) for error in failed if isinstance(error, Exception)] == [RedisTimeoutError] * 2
    proxy.forward()
    assert await echo(cache, "again")


async def test_whoever_gives_up_while_connecting_does_not_take_the_connection_from_the_others(
    distant_cache: DistantCache,
) -> None:
    """The first to ask is cancelled; the second gets its answer on the same connection."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    first = asyncio.create_task(echo(cache, "first"))
    second = asyncio.create_task(echo(cache, "second"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert proxy.count(b"HELLO") == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_connecting_ends_with_the_call_and_is_no_part_of_its_request(distant_cache: DistantCache) -> None:
    """Who is out of time hears so and not that the network failed; the connection knows nothing of who asked first."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    made_by: list[str] = []
    make = cache._wire._connection

    def connection() -> AbstractConnection:
        made_by.append(asker.get())
        return make()

    cache._wire._connection = connection
    proxy.hang(b"HELLO")
    asker.set("first")
    with deadline_scope(0.02), pytest.raises(CacheUnavailable) as late:
        await echo(cache, "late")
    assert isinstance(late.value.__cause__, DeadlineExceeded)
    assert late.value.__cause__.extensions == {"step": "echo"}
    proxy.forward()
    assert await echo(cache, "in time")
    assert set(made_by) == {"nobody"}


async def test_a_cut_connection_is_made_again_by_the_next_call(distant_cache: DistantCache) -> None:
    """A call that was under way fails; the one after it does not."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    assert await echo(cache, "first")
    proxy.hang(b"under way")
    under_way = asyncio.create_task(echo(cache, "under way"))
    await proxy.seen(b"under way", 1)
    proxy.cut()
    proxy.forward()
    with pytest.raises(CacheUnavailable):
        await under_way
    assert await echo(cache, "again")


async def test_an_error_that_redis_answers_fails_its_own_call_only(cache: Cache) -> None:
    """The others on the connection do not notice, and Redis stays in use."""
    await cache.client.set("text", "x")
    right = asyncio.create_task(echo(cache, "right"))
    with pytest.raises(CacheUnavailable) as wrong:
        await cache.call("push", ("LPUSH", "text", "y"))
    assert isinstance(wrong.value.__cause__, ResponseError)
    assert await right
    assert cache.breaker.state is State.CLOSED


async def test_it_works_on_the_loop_services_run_on(servers: "Servers") -> None:
    """The sockets of uvloop are not those of asyncio."""

    async def crowd() -> bool:
        cache = Cache(servers.endpoints.redis)
        answers = await asyncio.gather(*(echo(cache, f"text {n}") for n in range(100)))
        await cache.close()
        return all(answers)

    def run() -> bool:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(crowd())

    assert await asyncio.to_thread(run)
