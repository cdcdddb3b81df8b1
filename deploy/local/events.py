"""What the supervisor tells: the progress of a start to whoever waits for it, and its own log."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, Self, TypeAlias

__all__ = ["Event", "Listener", "log", "write_event"]

StepState: TypeAlias = Literal["started", "done", "failed", "note"]


@dataclass(frozen=True, slots=True)
class Event:
    """A step began, ended or failed; `step` is "system" for the start as a whole."""

    step: str
    state: StepState
    seconds: float = 0.0
    message: str = ""
    log_tail: tuple[str, ...] = ()

    def encode(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Self:
        """The inverse of :meth:`encode`."""
        fields = json.loads(line)
        return cls(**{**fields, "log_tail": tuple(fields["log_tail"])})


Listener: TypeAlias = Callable[[Event], None]


def write_event(event: Event) -> None:
    """Sends an event up the pipe that is our standard output. Nobody listening is no reason to stop."""
    try:
        sys.stdout.write(event.encode() + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        pass


def log(event: str, level: str = "info", **fields: object) -> None:
    """One line of the supervisor's log, shaped as the services' lines are."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {**fields, "event": event, "level": level, "timestamp": now, "service": "supervisor"}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
