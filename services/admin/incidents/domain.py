"""What an incident is.

open ──> acknowledged ──> resolved
  └─────────────────────────^
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

__all__ = ["Incident", "IncidentState", "NewIncident"]


class IncidentState(StrEnum):
    """Whether somebody knows of it, and whether it is over."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class NewIncident:
    """What a service says went wrong for good. `key` is its own name for it: raised twice it is one incident."""

    service: str
    key: str
    kind: str
    summary: str
    detail: Mapping[str, Any]
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it stands."""

    id: str
    service: str
    kind: str
    summary: str
    detail: Mapping[str, Any]
    correlation_id: str
    state: IncidentState
    raised_at: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolved_by: str | None
    resolved_at: datetime | None
