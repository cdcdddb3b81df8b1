"""Appending to the audit log, reading it, and seeing whether somebody changed it."""

from dataclasses import dataclass
from typing import Final

import orjson
from opentelemetry import metrics

from reliability.audit import Entry
from reliability.logging import get_logger
from reliability.postgres import Database
from services.admin.audit import repository
from services.admin.audit.domain import Appended, AuditFilter, NewEntry, is_intact, next_hash

__all__ = ["AuditService", "Page"]

_BATCH: Final = 1000

_log = get_logger(__name__)
_violations = metrics.get_meter("holdfast").create_counter(
    "holdfast.invariant.violations", description="Promises found broken, by which one"
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the log, where the next one begins, and whether all on it is as it was appended."""

    rows: list[Appended]
    following: int | None
    intact: bool


class AuditService:
    """One chain for all services."""

    def __init__(self, database: Database, *, own_name: str) -> None:
        self._database = database
        self._own_name = own_name

    async def append(self, entry: NewEntry) -> int:
        """Adds an entry and answers its place; one that is there stays where it is."""
        async with self._database.transaction("append audit") as connection:
            sequence, previous = await repository.lock_head(connection)
            if (place := await repository.find(connection, entry.id)) is not None:
                return place
            digest = next_hash(previous, sequence + 1, entry)
            await repository.append(connection, sequence + 1, entry, previous, digest)
            await repository.move_head(connection, sequence + 1, digest)
        # Logs are kept elsewhere: whoever rewrites the whole chain has to rewrite them as well.
        _log.info("audit_appended", sequence=sequence + 1, hash=digest.hex(), action=entry.action)
        return sequence + 1

    async def keep(self, entry: Entry) -> None:
        """Appends what admin itself has recorded."""
        detail = orjson.dumps(entry.detail, option=orjson.OPT_SORT_KEYS).decode()
        new = NewEntry(
            id=entry.id,
            service=self._own_name,
            happened_at=entry.happened_at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail_json=detail,
            correlation_id=entry.correlation_id,
        )
        await self.append(new)

    async def page(self, which: AuditFilter, before: int | None, limit: int) -> Page:
        """Up to `limit` entries, the newest first."""
        async with self._database.connection() as connection:
            end, _ = await repository.head(connection)
            found = await repository.page(connection, which, before, limit + 1)
        rows = found[:limit]
        # Others may have appended since we looked where the end is, but nobody takes the end away.
        whole = before is not None or which != AuditFilter() or end <= (rows[0].sequence if rows else 0)
        intact = whole and all(is_intact(row) for row in rows)
        return Page(rows, rows[-1].sequence if len(found) > limit else None, intact)

    async def verify(self) -> int:
        """Reads the whole chain; the place of the first entry that is not as it was appended, or 0."""
        async with self._database.connection() as connection:
            end, digest = await repository.head(connection)
        checked, last = 0, bytes(32)
        while checked < end:
            async with self._database.connection() as connection:
                rows = await repository.run(connection, checked, _BATCH)
            for row in rows:
                if row.sequence != checked + 1 or not is_intact(row):
                    return checked + 1
                checked, last = row.sequence, row.hash
                if checked == end and last != digest:
                    return checked
            if not rows:
                return checked + 1
        return 0

    async def watch(self) -> int:
        """Verifies, and raises the alarm; how many breaks there are, 0 or 1."""
        broken = await self.verify()
        if broken:
            _violations.add(1, {"invariant": "audit_chain"})
            _log.error("audit_chain_broken", sequence=broken)
        return int(broken > 0)
