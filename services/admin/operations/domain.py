"""A job that ran out of attempts, whosever it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

__all__ = ["DeadLetter", "JobId", "Page"]


@dataclass(frozen=True, slots=True)
class JobId:
    """A job among those of every service: `orders:42`."""

    service: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for a text that is no id."""
        service, _, number = text.rpartition(":")
        if not service or not number.isascii() or not number.isdigit() or int(number) >= 2**63:
            return None
        return cls(service, int(number))

    def __str__(self) -> str:
        return f"{self.service}:{self.number}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What it was to do, how often it was tried, and why it failed in the end."""

    id: JobId
    kind: str
    attempts: int
    error: str
    correlation_id: str
    created_at: datetime
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Dead letters, the last parked first; `degraded` are services that did not answer."""

    items: Sequence[DeadLetter]
    degraded: Sequence[str]
