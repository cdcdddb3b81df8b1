"""The words a topology is written in: processes that stay, jobs that end, actions of our own."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from deploy.local.identity import Identity

__all__ = ["Action", "Command", "Job", "Probe", "Process", "Stage", "Step"]

Probe: TypeAlias = Callable[[], Awaitable[bool]]


async def _answers() -> bool:
    """Nobody can be asked: a process lives until it ends."""
    return True


class Stage(IntEnum):
    """Who goes first when stopping: the highest. Within a stage all stop at once."""

    DATA = 0
    OUTSIDE = 1
    TELEMETRY = 2
    SERVICES = 3
    EDGE = 4


@dataclass(frozen=True, slots=True)
class Command:
    """Something to execute.

    `environment` is the whole environment of the child. Its standard output goes to the file `output` if one is
    named, and to the log otherwise.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    identity: Identity | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A process that is kept running.

    While something it needs is away it is not `ready`, and nobody minds; when it is not `alive` it is killed and
    started again.
    """

    name: str
    command: Command
    ready: Probe
    stage: Stage
    ports: tuple[int, ...]
    after: tuple[str, ...] = ()
    alive: Probe = _answers
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # when the supervisor itself was killed
    stop_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Job:
    """A command that must end well before what comes after it starts."""

    name: str
    command: Command
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """A step done by the supervisor itself."""

    name: str
    run: Callable[[], Awaitable[None]]
    after: tuple[str, ...] = ()


Step: TypeAlias = Process | Job | Action
