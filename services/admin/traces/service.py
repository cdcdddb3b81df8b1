"""Keeps spans and finds them again."""

from collections.abc import Sequence

from reliability.postgres import Database
from services.admin.traces import repository
from services.admin.traces.domain import Batch, Cursor, StoredSpan, TraceSummary, is_trace_id
from services.admin.traces.errors import NoSuchTrace

__all__ = ["TraceService"]


class TraceService:
    """Uses plain connections: one statement needs no transaction, and a transaction would leave a span of its own."""

    def __init__(self, database: Database, *, retention_days: int) -> None:
        self._database = database
        self._retention_days = retention_days

    async def keep(self, batches: Sequence[Batch]) -> None:
        """Stores an export in one statement; sent twice, its spans are read once."""
        if batches:
            async with self._database.connection() as connection:
                await repository.add(connection, batches)

    async def page(
        self, flows: Sequence[str] | None, cursor: Cursor | None, limit: int
    ) -> tuple[list[TraceSummary], Cursor | None]:
        """Up to `limit` traces of these flows, or of all, the newest first, and where the next page begins."""
        async with self._database.connection() as connection:
            found = (
                await repository.of_flows(connection, flows, cursor, limit + 1)
                if flows is not None
                else await repository.newest(connection, cursor, limit + 1)
            )
        page = found[:limit]
        more = len(found) > limit
        return page, Cursor(page[-1].started_at, page[-1].trace_id) if more else None

    async def spans(self, trace_id: str) -> list[StoredSpan]:
        """The spans of a trace. Raises `NoSuchTrace`."""
        if not is_trace_id(trace_id):
            raise NoSuchTrace
        async with self._database.connection() as connection:
            spans = await repository.spans_of(connection, trace_id)
        if not spans:
            raise NoSuchTrace
        return spans

    async def prune(self) -> int:
        """Deletes what is past retention; how many traces."""
        pruned = 0
        while True:
            async with self._database.transaction("prune spans") as connection:
                batch = await repository.prune(connection, self._retention_days)
            pruned += batch
            if not batch:
                return pruned
