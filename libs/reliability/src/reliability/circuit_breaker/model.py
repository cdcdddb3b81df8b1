"""The parts of a breaker others hold: a permit, its state, a picture of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Final, Self

__all__ = ["RESET", "Permit", "Snapshot", "State"]

RESET: Final = "reset"
"""The reason of a breaker that an operator closed."""


class State(Enum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Permit:
    """The right to make one call, whose end is told by `with`, or by exactly one of the three methods.

    `with` is enough in a coroutine too, for nothing here waits; `async with` does the same.
    While a breaker is closed and its calls are not timed, all share one permit: it knows nothing of any of them.
    `started` is the instant on the breaker's clock, in seconds.
    """

    __slots__ = ("_failed", "_succeeded", "generation", "started")

    def __init__(
        self,
        generation: int,
        failed: "Callable[[Permit, BaseException], None]",
        succeeded: "Callable[[Permit], None] | None",
        started: float = 0.0,
    ) -> None:
        self.generation = generation
        self._failed = failed
        self._succeeded = succeeded
        self.started = started

    def success(self) -> None:
        """The dependency answered."""
        if self._succeeded is not None:
            self._succeeded(self)

    def failure(self, error: BaseException) -> None:
        """The call raised; the breaker's judge decides what that says."""
        self._failed(self, error)

    def give_back(self) -> None:
        """The call was not made, or given up: that says nothing about the dependency."""
        self._failed(self, GeneratorExit())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._failed(self, error)
        elif self._succeeded is not None:
            self._succeeded(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A breaker as an operator sees it. Times are the wall clock's."""

    name: str
    state: State
    reason: str
    """Of the last change: which rule was broken, or who did it."""
    since: datetime
    failures: int
    """In the window; of a breaker that is not closed, in its window when it last was."""
    openings: int
    """Since it was last closed; each lasts longer than the one before."""
    next_try: datetime | None
    """When an open breaker lets the next call through."""
    refused: int
    """Calls refused since the process started."""
