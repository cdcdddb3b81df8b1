"""What a job is, and the three ways for a handler to end other than returning or failing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reliability.errors import ControlFlow, LeaseLost
from reliability.postgres import Connection

__all__ = ["Handler", "Job", "Park", "Run", "Snooze", "StoredRun"]


class Park(Exception):
    """Trying again will not help: the job becomes a dead letter at once."""


class Snooze(ControlFlow):
    """Not yet: the job comes back after `seconds`, and this attempt is not counted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"come back in {seconds} s")
        self.seconds = seconds


_COMPLETE = """
UPDATE jobs SET state = 'done', finished_at = now(), lease_until = NULL, last_error = NULL
 WHERE id = $1 AND fence = $2 AND state = 'running'
"""


@dataclass(slots=True)
class Job:
    """A claimed job, `age` seconds old. `attempt` counts from 1; `fence` tells this claim from every other one."""

    id: int
    kind: str
    payload: dict[str, Any]
    attempt: int
    max_attempts: int
    fence: int
    correlation_id: str
    trace: dict[str, str]
    age: float = 0.0
    completed: bool = False
    order_key: str | None = None

    @property
    def last_attempt(self) -> bool:
        """Whether a failure now makes it a dead letter."""
        return self.attempt >= self.max_attempts

    async def complete(self, connection: Connection) -> None:
        """Marks the job done in the handler's own transaction, with the effect it had.

        Raises `LeaseLost` when another worker owns it by now; the transaction must then roll back.
        """
        self.settled(ours=await connection.execute(_COMPLETE, self.id, self.fence) == "UPDATE 1")

    def settled(self, *, ours: bool) -> None:
        """Notes that a statement with `queue.completing` in it has run. Raises `LeaseLost` when it was not `ours`."""
        if not ours:
            message = f"Job {self.id} was taken over by another worker."
            raise LeaseLost(message)
        self.completed = True


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a schedule did."""

    processed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a schedule as it is stored; `finished_at` is None while it waits or works."""

    id: int
    job: str
    scheduled_for: datetime
    started_at: datetime | None
    finished_at: datetime | None
    processed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Handler:
    """How one kind of job is run, and for how many seconds at most."""

    kind: str
    call: Callable[[Job], Awaitable[None]]
    timeout: float
    parked: Callable[[Connection, Job, str], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Something to do every `every` seconds."""

    name: str
    every: float
    call: Callable[[datetime], Awaitable[Run]]
