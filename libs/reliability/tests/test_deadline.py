"""One absolute deadline per request."""

import asyncio

import httpx
import pytest

from reliability import deadline
from reliability.asgi import Answer, Call, Endpoint
from reliability.errors import DeadlineExceeded
from reliability.health import Readiness
from reliability.retry import retry
from reliability.runtime import Application


def test_without_a_deadline_a_step_gets_the_cap_of_its_kind() -> None:
    """8 s for somebody else's API, 10 s for the database, 2 s for the cache."""
    caps = (deadline.EXTERNAL_CAP, deadline.DATABASE_CAP, deadline.CACHE_CAP)
    assert caps == (8.0, 10.0, 2.0)
    assert [deadline.remaining(cap) for cap in caps] == list(caps)


def test_a_deadline_is_left_as_it_was_found() -> None:
    """Also when the block fails, and `None` changes nothing."""
    with deadline.deadline_scope(5):
        with pytest.raises(ZeroDivisionError), deadline.deadline_scope(1):
            raise ZeroDivisionError
        with deadline.deadline_scope(None):
            assert 4 < deadline.remaining(8) <= 5
    assert deadline.remaining(8) == 8


def test_what_is_left_is_never_below_zero() -> None:
    """A timeout below zero would mean something else to most libraries."""
    with deadline.deadline_scope(-1):
        assert deadline.remaining(8) == 0


def test_giving_back_what_is_held_has_time_of_its_own() -> None:
    """It is most needed when time is up."""
    with deadline.deadline_scope(0):
        with deadline.extra_time(2):
            assert 1 < deadline.remaining(8) <= 2
        assert deadline.remaining(8) == 0


async def test_a_step_begins_with_time_or_not_at_all() -> None:
    """Nothing of it runs when time is up."""
    ran = False
    with pytest.raises(DeadlineExceeded), deadline.deadline_scope(0):
        async with deadline.limit(8, "mail"):
            ran = True
    assert not ran


async def test_a_timeout_of_the_step_itself_is_not_the_deadlines() -> None:
    """A socket that gave up says so, and is not called our running out of time."""
    with pytest.raises(TimeoutError):
        async with deadline.limit(8, "mail"):
            raise TimeoutError


async def test_nobody_sleeps_past_the_deadline() -> None:
    """It raises at once, with the step, instead of sleeping for nothing; a sleep that fits is slept."""
    with deadline.deadline_scope(60):
        await deadline.sleep(0)
        with pytest.raises(DeadlineExceeded) as exceeded:
            await deadline.sleep(61, "next look")
    assert exceeded.value.extensions == {"step": "next look"}
    await deadline.sleep(0)


async def test_tasks_share_the_deadline_of_who_started_them() -> None:
    """Three at once have as long as one."""

    async def left() -> float:
        return deadline.remaining(8)

    with deadline.deadline_scope(1):
        assert all(0 < each <= 1 for each in await asyncio.gather(left(), left(), left()))


@pytest.mark.parametrize(("header", "most"), [({}, 5.0), ({"x-envoy-expected-rq-timeout-ms": "1500"}, 1.5)])
async def test_a_request_gets_what_the_gateway_expects_and_never_more_than_the_edge_grants(
    header: dict[str, str], most: float
) -> None:
    """An answer after the gateway has given up is work for nobody."""
    seen: list[float] = []

    async def handle(_call: Call) -> Answer:
        seen.append(deadline.remaining(100))
        return Answer({})

    edge = Application(endpoints=[Endpoint("GET", "/api/x", handle)]).asgi(Readiness({}), request_seconds=5.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://x.test") as client:
        assert (await client.get("/api/x", headers=header)).status_code == 200
    assert most - 1 < seen[0] <= most


async def test_running_out_of_time_is_504_and_names_the_step() -> None:
    """Whatever the step was: here a call that does not know of deadlines."""

    async def handle(_call: Call) -> Answer:
        await retry(lambda: asyncio.Event().wait(), step="resend.send")
        return Answer({})

    edge = Application(endpoints=[Endpoint("GET", "/api/x", handle)]).asgi(Readiness({}), request_seconds=0.05)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://x.test") as client:
        answer = await client.get("/api/x")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["step"]) == (504, "deadline_exceeded", "resend.send")
