"""An entry of the audit log, and how it hangs on the one before it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Appended", "AuditFilter", "NewEntry", "is_intact", "next_hash"]


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What a service says that somebody did."""

    id: str
    service: str
    happened_at: datetime
    actor: str
    action: str
    subject: str
    detail_json: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry in its place. `before` is the hash of the entry before it as that entry has it, None if it is gone."""

    sequence: int
    entry: NewEntry
    previous: bytes
    hash: bytes
    before: bytes | None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; None is all of them."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None


def next_hash(previous: bytes, sequence: int, entry: NewEntry) -> bytes:
    """The hash of an entry in its place: over the hash before it and everything it says."""
    said = [
        sequence,
        entry.id,
        entry.service,
        entry.happened_at.astimezone(UTC).isoformat(),
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail_json,
        entry.correlation_id,
    ]
    return hashlib.sha256(previous + json.dumps(said, ensure_ascii=True).encode()).digest()


def is_intact(row: Appended) -> bool:
    """Whether an entry says what it said when it was appended, after the same entry as then."""
    return row.previous == row.before and row.hash == next_hash(row.previous, row.sequence, row.entry)
