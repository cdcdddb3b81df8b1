"""Queries and answers about incidents."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from services.admin.incidents.domain import Incident, IncidentState

__all__ = ["IncidentItem", "IncidentList", "IncidentQuery"]


class IncidentQuery(BaseModel):
    """Which incidents."""

    state: IncidentState | None = None
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=36)


class IncidentItem(BaseModel):
    """What went wrong for good, where, and who looks after it."""

    id: str
    service: str
    kind: str
    summary: str
    detail: dict[str, Any]
    correlation_id: str
    state: IncidentState
    raised_at: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolved_by: str | None
    resolved_at: datetime | None

    @classmethod
    def of(cls, incident: Incident) -> Self:
        """The item for an incident."""
        return cls(**{name: getattr(incident, name) for name in cls.model_fields})


class IncidentList(BaseModel):
    """A page of incidents, the newest first."""

    items: list[IncidentItem]
    next_cursor: str | None
