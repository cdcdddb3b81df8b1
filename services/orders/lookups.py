"""Questions that are asked while the same is being asked for somebody else, put together into one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

from reliability import deadline
from reliability.errors import Problem

__all__ = ["Lookups"]

T = TypeVar("T")

# As long as a call takes when all is well: a hung one must not hold up who comes after it.
_PATIENCE: Final = 0.02


class Lookups(Generic[T]):
    """Looks things up by id. Who comes while a call is on its way shares the next one with everybody else who does.

    An answer is never older than its question: nobody joins a call that has begun. Alone one asks at once, so that
    this costs nothing when there is little to do and saves most calls when there is much. `most` is how many ids a
    call may have. A shared call that fails is made again by each for himself.
    """

    def __init__(self, ask: Callable[[Iterable[str]], Awaitable[dict[str, T]]], *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._current: asyncio.Future[None] | None = None
        self._ids: set[str] = set()
        self._next: asyncio.Task[dict[str, T]] | None = None

    async def __call__(self, ids: Iterable[str]) -> dict[str, T]:
        """What there is, by id. Raises what the call raises."""
        wanted = list(ids)
        if self._current is None:
            return await self._call(wanted)
        if len(self._ids.union(wanted)) > self._most:
            return await self._ask(wanted)
        self._ids.update(wanted)
        if self._next is None:
            self._next = asyncio.create_task(self._shared(self._current))
        try:
            async with deadline.limit(deadline.EXTERNAL_CAP, "lookup"):
                found = await asyncio.shield(self._next)
        except Problem:
            return await self._ask(wanted)
        return {each: found[each] for each in wanted if each in found}

    async def _shared(self, current: "asyncio.Future[None]") -> dict[str, T]:
        await asyncio.wait({current}, timeout=_PATIENCE)
        ids, self._ids, self._next = self._ids, set(), None
        return await self._call(ids)

    async def _call(self, ids: Iterable[str]) -> dict[str, T]:
        mine = self._current = asyncio.get_running_loop().create_future()
        try:
            return await self._ask(ids)
        finally:
            mine.set_result(None)
            if self._current is mine:
                self._current = None
