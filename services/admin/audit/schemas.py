"""Queries and answers of the audit log."""

from datetime import datetime
from typing import Any, Self

import orjson
from pydantic import BaseModel, Field

from services.admin.audit.domain import Appended, AuditFilter, is_intact

__all__ = ["AuditItem", "AuditList", "AuditQuery"]


class AuditQuery(BaseModel):
    """Which entries."""

    actor: str | None = Field(default=None, min_length=1, max_length=128)
    action: str | None = Field(default=None, min_length=1, max_length=128)
    subject: str | None = Field(default=None, min_length=1, max_length=128)
    limit: int = Field(default=20, ge=1, le=100)
    cursor: int | None = Field(default=None, ge=1, lt=2**63)

    @property
    def which(self) -> AuditFilter:
        """The filter alone."""
        return AuditFilter(self.actor, self.action, self.subject)


class AuditItem(BaseModel):
    """What somebody did. `intact` is false when the entry, or the one before it, is not as it was appended."""

    sequence: int
    id: str
    happened_at: datetime
    service: str
    actor: str
    action: str
    subject: str
    detail: Any
    correlation_id: str
    hash: str
    intact: bool

    @classmethod
    def of(cls, row: Appended) -> Self:
        """The item for an entry."""
        entry = row.entry
        return cls(
            sequence=row.sequence,
            id=entry.id,
            happened_at=entry.happened_at,
            service=entry.service,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail=orjson.loads(entry.detail_json),
            correlation_id=entry.correlation_id,
            hash=row.hash.hex(),
            intact=is_intact(row),
        )


class AuditList(BaseModel):
    """A page of the log, the newest first."""

    items: list[AuditItem]
    next_cursor: str | None
    intact: bool
