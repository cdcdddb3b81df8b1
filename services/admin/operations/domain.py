"""A job that ran out of attempts, whosever it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

__all__ = ["DeadLetter", "JobId", "Page", "Place"]

_LAST: Final = 2**63 - 1


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

    @property
    def place(self) -> "Place":
        """Where it is in the list."""
        return Place(self.parked_at, self.id.service, self.id.number)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the list of all services' dead letters: by time, by name of the service, by number.

    The time alone is no place: one transaction may park many.
    """

    parked_at: datetime
    service: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its text. Raises `ValueError`."""
        at, _, rest = text.partition("~")
        job = JobId.parse(rest)
        parked_at = datetime.fromisoformat(at)
        if job is None or parked_at.tzinfo is None:
            message = "is no place in a list"
            raise ValueError(message)
        return cls(parked_at, job.service, job.number)

    def __str__(self) -> str:
        at = self.parked_at.astimezone(UTC).isoformat().replace("+00:00", "Z")  # a plus in a query is a space
        return f"{at}~{JobId(self.service, self.number)}"

    def id_before(self, service: str) -> int:
        """Below which number a dead letter of `service`, parked at this very time, comes after this place."""
        if service == self.service:
            return self.number
        return _LAST if service < self.service else 0


@dataclass(frozen=True, slots=True)
class Page:
    """Dead letters, the last parked first; `degraded` are services that did not answer."""

    items: Sequence[DeadLetter]
    degraded: Sequence[str]
