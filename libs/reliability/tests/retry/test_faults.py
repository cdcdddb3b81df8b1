"""Retries against real servers and a network that fails."""

import asyncio

import asyncpg
import httpx
import pytest

from libs.reliability.tests.retry.support import Clock, no_jitter
from libs.reliability.tests.support import Distant, DistantCache
from reliability.errors import Unavailable
from reliability.redis import Cache, CacheUnavailable
from reliability.retry import retry


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
