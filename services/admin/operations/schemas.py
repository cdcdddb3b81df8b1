"""Queries and answers about dead letters."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field, field_validator

from services.admin.operations.domain import DeadLetter, Place

__all__ = ["DeadLetterItem", "DeadLetterList", "DeadLetterQuery", "Redriven"]


class DeadLetterQuery(BaseModel):
    """Which dead letters; the cursor is the place of the last one seen."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=100)

    @field_validator("cursor")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is not None:
            Place.parse(value)
        return value

    @property
    def before(self) -> Place | None:
        """After which place the page begins."""
        return None if self.cursor is None else Place.parse(self.cursor)


class DeadLetterItem(BaseModel):
    """A job that ran out of attempts."""

    id: str
    service: str
    kind: str
    attempts: int
    error: str
    correlation_id: str
    created_at: datetime
    parked_at: datetime

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """The item for a dead letter."""
        return cls(
            id=str(letter.id),
            service=letter.id.service,
            kind=letter.kind,
            attempts=letter.attempts,
            error=letter.error,
            correlation_id=letter.correlation_id,
            created_at=letter.created_at,
            parked_at=letter.parked_at,
        )


class DeadLetterList(BaseModel):
    """A page of dead letters of every service, the last parked first; `degraded` did not answer."""

    items: list[DeadLetterItem]
    next_cursor: str | None
    degraded: list[str]


class Redriven(BaseModel):
    """It is queued again, with all its attempts."""

    id: str
    state: str = "queued"
