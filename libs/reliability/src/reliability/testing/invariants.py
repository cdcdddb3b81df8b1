"""What must hold over the whole database, whatever has happened to it: named, and checked all together.

    books = Invariants()
    books.sql("an order is charged once", database, "SELECT order_id FROM charges GROUP BY 1 HAVING count(*) > 1")
    books.add("Stripe charged what we sold", compare_with_stripe)
    ...                     # cut, kill, retry, replay
    await books.settled()   # or `check()`, when nothing is left to come

An invariant answers with what breaks it, rows as a rule; nothing means that it holds. A test that looks at one row
sees that this row is right; these see what nobody thought of.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

__all__ = ["JOBS", "QUIET", "Broken", "Invariants", "Source"]

_SHOWN: Final = 5
_POLL_SECONDS: Final = 0.05

Rows = Iterable[object]
Check = Callable[[], Awaitable[Rows]]


class Connected(Protocol):
    """What `reliability.postgres.Database` is, as seen from here."""

    def connection(self) -> Any: ...


Source = Connected | Callable[[str], Awaitable[Rows]]
"""A `Database`, or any function from a query to its rows."""

JOBS: Final[dict[str, str]] = {
    "a job has no more attempts than it may": "SELECT * FROM jobs WHERE attempt > max_attempts",
    "jobs of one order key run one at a time": """
        SELECT order_key, array_agg(id) FROM jobs WHERE state = 'running' AND order_key IS NOT NULL
         GROUP BY order_key HAVING count(*) > 1""",
    "a unique key is used once": """
        SELECT kind, unique_key FROM jobs WHERE unique_key IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1""",
    "a scheduled run has a job": """
        SELECT * FROM job_runs AS r WHERE finished_at IS NULL AND NOT EXISTS (
            SELECT FROM jobs WHERE kind = 'schedule:' || r.job AND (payload ->> 'run_id')::bigint = r.id)""",
}
"""Of the library's own job tables, at any moment."""

QUIET: Final[dict[str, str]] = {
    "no job is left to do": """
        SELECT kind, state, attempt, last_error FROM jobs
         WHERE (state = 'running' OR (state = 'queued' AND run_at <= now())) AND kind NOT LIKE 'schedule:%'""",
    "no job is a dead letter": "SELECT kind, attempt, last_error FROM jobs WHERE state = 'parked'",
}
"""Of the job tables, once everything has come to rest."""


class Broken(AssertionError):
    """Some invariants do not hold. `found` has what breaks them, by name."""

    def __init__(self, found: Mapping[str, Sequence[object]], of: int) -> None:
        self.found = found
        lines = [f"{len(found)} of {of} invariants {'does' if len(found) == 1 else 'do'} not hold:"]
        for name, rows in found.items():
            lines.append(f"  {name}: {len(rows)} {'counterexample' if len(rows) == 1 else 'counterexamples'}")
            lines += [f"    {row}" for row in rows[:_SHOWN]]
            lines += [f"    and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
        super().__init__("\n".join(lines))


class Invariants:
    """A list of promises. It asks each of them every time, so that one failure does not hide another."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def sql(self, name: str, source: Source, query: str) -> None:
        """Adds one that holds when `query` finds no rows."""

        async def ask() -> Rows:
            return await _rows(source, query)

        self.add(name, ask)

    def all_sql(self, source: Source, queries: Mapping[str, str], *, prefix: str = "") -> None:
        """Adds several of one source; `prefix` tells those of two databases apart."""
        for name, query in queries.items():
            self.sql(f"{prefix}{name}", source, query)

    def add(self, name: str, check: Check) -> None:
        """Adds one that holds when `check` returns nothing. Raises `ValueError` for a name that is taken."""
        if name in self._checks:
            raise ValueError(f"there is an invariant {name!r} already")
        self._checks[name] = check

    async def broken(self) -> dict[str, list[object]]:
        """What breaks which; empty when all hold. A check that raises is broken by its error.

        Raises `ValueError` when there is none.
        """
        if not self._checks:
            raise ValueError("nothing is promised, so nothing can be checked")
        found = await asyncio.gather(*map(_look, self._checks.values()))
        return {name: rows for name, rows in zip(self._checks, found, strict=True) if rows}

    async def check(self) -> None:
        """Raises `Broken` unless every one holds now."""
        if found := await self.broken():
            raise Broken(found, len(self._checks))

    async def settled(self, *, seconds: float = 30.0) -> None:
        """Returns when all hold at once. Raises `Broken` with the last look when that takes longer.

        For what is promised of the end, "no job is left to do" say. What must hold at any moment is for `check`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while found := await self.broken():
            if loop.time() >= end:
                raise Broken(found, len(self._checks))
            await asyncio.sleep(_POLL_SECONDS)


async def _look(check: Check) -> list[object]:
    try:
        return list(await check())
    except Exception as error:  # noqa: BLE001 - what could not be asked does not hold, and the others are asked too
        return [f"could not be checked: {type(error).__name__}: {error}"]


async def _rows(source: Source, query: str) -> Rows:
    if callable(source):
        return await source(query)
    async with source.connection() as connection:
        return [dict(row) for row in await connection.fetch(query)]
