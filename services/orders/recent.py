"""What somebody was told a moment ago."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")

_SECONDS: Final = 30.0
_MOST: Final = 1000


class Recent(Generic[T]):
    """Remembers the latest `most` answers by id, for `seconds`.

    For who finds out in the end whether it is still so. What turned out to be otherwise is to be forgotten.
    """

    def __init__(
        self, *, seconds: float = _SECONDS, most: int = _MOST, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._now = now
        self._told: dict[str, tuple[float, T]] = {}

    def remember(self, answers: Mapping[str, T]) -> None:
        """Takes the place of what was told before."""
        at = self._now()
        self.forget(answers)  # so that the oldest are the first
        self._told.update({each: (at, answer) for each, answer in answers.items()})
        while len(self._told) > self._most:
            del self._told[next(iter(self._told))]

    def forget(self, ids: Iterable[str]) -> None:
        """Until it is told again."""
        for each in ids:
            self._told.pop(each, None)

    def __call__(self, ids: Iterable[str]) -> dict[str, T]:
        """Those that are remembered."""
        since = self._now() - self._seconds
        told = {each: self._told[each] for each in ids if each in self._told}
        return {each: answer for each, (at, answer) in told.items() if at >= since}
