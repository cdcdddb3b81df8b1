"""Events that come in a burst share statements; each has the answer it would have had alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reliability import inbox
from reliability.context import correlation_scope
from reliability.errors import Unavailable
from reliability.gathering import Gatherer
from reliability.inbox import Gathered, Received
from reliability.jobs import Worker
from reliability.postgres import Connection, Database


def event(number: int, key: str = "pi_1") -> Received:
    return Received("stripe", f"evt_{number}", "paid", key, b"{}")


def gatherer(database: Database) -> Gatherer:
    return Gatherer(database, Worker(database), job="process")


async def rows(database: Database, table: str) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY id")]


class Gate:
    """Holds every statement of one event back until it is opened; notes how many events each of the others has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.entered = 0
        self.sizes: list[int] = []
        self._alone, self._many = inbox.receive, inbox.receive_many
        monkeypatch.setattr(inbox, "receive", self._receive)
        monkeypatch.setattr(inbox, "receive_many", self._receive_many)

    async def _receive(self, connection: Connection, received: Received, **options: Any) -> str | None:
        self.entered += 1
        await self.open.wait()
        return await self._alone(connection, received, **options)

    async def _receive_many(
        self, connection: Connection, gathered: Sequence[Gathered], **options: Any
    ) -> list[str | None]:
        self.sizes.append(len(gathered))
        return await self._many(connection, gathered, **options)

    @asynccontextmanager
    async def closed(self, gatherer: Gatherer) -> AsyncIterator[None]:
        """Two events are being stored, so that whoever comes now waits; opened at the end."""
        first = [asyncio.create_task(gatherer.receive(event(number, "first"))) for number in (-1, -2)]
        while self.entered < 2:
            await asyncio.sleep(0)
        yield
        self.open.set()
        assert await asyncio.gather(*first) == ["received", "received"]


async def come(gatherer: Gatherer, *events: Received) -> list["asyncio.Task[str | None]"]:
    """Each brings an event, in this order and under a flow of its own; they wait."""
    coming = []
    for each in events:
        with correlation_scope(f"flow-{each.event_id}"):
            coming.append(asyncio.create_task(gatherer.receive(each)))
    await asyncio.sleep(0)
    return coming


async def test_one_that_comes_alone_waits_for_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, as without a gatherer; the second time it is known."""
    gate = Gate(monkeypatch)
    gate.open.set()
    ours = gatherer(database)
    assert [await ours.receive(event(1)), await ours.receive(event(1))] == ["received", None]
    assert gate.sizes == []


async def test_a_burst_is_one_statement(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its row, flow and job, in the order they came; one that is there twice, or was before, is known."""
    gate, ours = Gate(monkeypatch), gatherer(database)
    async with gate.closed(ours):
        coming = await come(ours, event(3), event(1), event(3), event(2), event(-1))
    assert [await each for each in coming] == ["received", "received", None, "received", None]
    assert gate.sizes == [5]
    stored = [row for row in await rows(database, "inbox") if row["object_key"] == "pi_1"]
    assert [row["event_id"] for row in stored] == ["evt_3", "evt_1", "evt_2"]
    assert [row["correlation_id"] for row in stored] == ["flow-evt_3", "flow-evt_1", "flow-evt_2"]
    jobs = [row for row in await rows(database, "jobs") if row["order_key"] == "stripe:pi_1"]
    assert [row["payload"]["inbox_id"] for row in jobs] == [row["id"] for row in stored]
    assert [row["correlation_id"] for row in jobs] == [row["correlation_id"] for row in stored]
    assert {(row["kind"], row["state"], row["max_attempts"]) for row in jobs} == {("process", "queued", 12)}


async def test_one_that_cannot_be_stored_is_its_own_affair(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server refuses for the sake of one is stored one by one: the others are received."""
    gate, ours = Gate(monkeypatch), gatherer(database)
    async with gate.closed(ours):
        coming = await come(ours, event(1), event(2, key="\0"), event(3))
    answers = await asyncio.gather(*coming, return_exceptions=True)
    assert answers[::2] == ["received", "received"]
    assert isinstance(answers[1], Exception)
    assert gate.sizes == [3, 1, 1, 1]
    assert {row["event_id"] for row in await rows(database, "inbox")} == {"evt_-1", "evt_-2", "evt_1", "evt_3"}


async def test_without_a_commit_nobody_is_told_received(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is everybody's answer: each sender comes again, and finds nothing stored."""
    gate, ours = Gate(monkeypatch), gatherer(database)
    async with gate.closed(ours):
        coming = await come(ours, event(1), event(2))

        async def away(*_: Any, **__: Any) -> list[str | None]:
            raise Unavailable

        monkeypatch.setattr(inbox, "receive_many", away)
    answers = await asyncio.gather(*coming, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    assert {row["event_id"] for row in await rows(database, "inbox")} == {"evt_-1", "evt_-2"}
    assert await ours.receive(event(1)) == "received"


async def test_whoever_leaves_takes_nobody_along(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait and are cancelled are not stored; nor do those stop anything whose end the others wait for."""
    gate, ours = Gate(monkeypatch), gatherer(database)
    async with gate.closed(ours):
        *left, stays = await come(ours, *(event(number) for number in range(100)))
        for each in left:
            each.cancel()
        await asyncio.sleep(0)
    assert await stays == "received"
    assert all(each.cancelled() for each in left)
    assert gate.sizes == [1]
    assert {row["event_id"] for row in await rows(database, "inbox")} == {"evt_-1", "evt_-2", "evt_99"}

    gate = Gate(monkeypatch)
    first = [asyncio.create_task(ours.receive(event(number))) for number in (3, 4)]
    while gate.entered < 2:
        await asyncio.sleep(0)
    (last,) = await come(ours, event(5))
    for each in first:
        each.cancel()
    assert await last == "received"


@pytest.mark.parametrize("events", [[], [event(1), Received("other", "evt_1", "paid", "pi_1", b"{}")]])
async def test_many_are_of_one_source(database: Database, events: list[Received]) -> None:
    """And at least one."""
    async with database.connection() as connection:
        with pytest.raises(ValueError, match="values to unpack"):
            await inbox.receive_many(connection, [Gathered(each, "flow", {}) for each in events], job="process")
