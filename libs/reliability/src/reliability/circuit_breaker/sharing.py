"""One process's opening, and what an operator holds by hand, seen by the others within a second.

Nothing here is on the way of a call: a task writes what changed and reads what others wrote, in one or two round
trips each time. What is shared are durations, the expiry of a key, so that no two clocks need agree. Without Redis
every breaker goes on by itself. Redis' own breaker is never shared, for who should tell?
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, assert_never

import orjson
import redis.asyncio

from reliability.circuit_breaker.breaker import CircuitBreaker, breakers, watching
from reliability.circuit_breaker.model import RESET, State
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable
from reliability.telemetry import untraced

__all__ = ["share"]

# That a hold is over is told for a day, to processes that were cut off meanwhile; that a dependency is back, briefly.
_RESET_SECONDS: Final = 86_400
_BACK_SECONDS: Final = 10

_log = get_logger(__name__)


async def share(cache: Cache, shared: Iterable[CircuitBreaker] | None = None, *, every: float = 0.5) -> None:
    """Runs until it is cancelled; `every` are the seconds between two looks.

    Shares every breaker of the process that is not `local`, also those made later, or just those given. Breakers
    of one name are the same dependency's. Raises `ValueError` when a local breaker is given.
    """
    chosen = None if shared is None else list(shared)
    if chosen is not None and any(breaker.local for breaker in chosen):
        raise ValueError("a local breaker is not shared")
    sharing = _Sharing(cache, chosen)
    with untraced(), watching(sharing.note):
        while True:
            await sharing.round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await sharing.news.wait()


class _Sharing:
    """What one process knows of the others, and what it has to tell them."""

    def __init__(self, cache: Cache, chosen: list[CircuitBreaker] | None) -> None:
        self._cache = cache
        self._chosen = chosen
        # Keys to versions: what was read or written before is no news.
        self._seen: dict[str, str] = {}
        self._untold = {breaker for breaker in self._breakers() if breaker.state is not State.CLOSED}
        self._adopting = False
        self.news = asyncio.Event()

    def note(self, breaker: CircuitBreaker) -> None:
        """A breaker of this process has changed: by itself, or because we heard of it."""
        if not self._adopting and breaker in self._breakers():
            self._untold.add(breaker)
            self.news.set()

    async def round(self) -> None:
        """Tells and listens once. What cannot be told now is told later, if it still holds then."""
        self.news.clear()
        try:
            await self._tell()
            await self._listen()
        except CacheUnavailable:
            pass  # the client has logged it

    def _breakers(self) -> list[CircuitBreaker]:
        return [breaker for breaker in breakers() if not breaker.local] if self._chosen is None else self._chosen

    async def _tell(self) -> None:
        if not self._untold:
            return
        untold = tuple(self._untold)
        versions: dict[str, str] = {}

        async def write(client: redis.asyncio.Redis) -> None:
            pipe = client.pipeline(transaction=True)
            for breaker in untold:
                _write(pipe, breaker, versions)
            await pipe.execute()

        self._untold.clear()
        try:
            await self._cache.run("tell breakers", write)
        except BaseException:
            self._untold.update(untold)
            raise
        self._seen |= versions

    async def _listen(self) -> None:
        by_name: dict[str, list[CircuitBreaker]] = {}
        for breaker in self._breakers():
            by_name.setdefault(breaker.name, []).append(breaker)
        if not by_name:
            return

        async def read(client: redis.asyncio.Redis) -> list[Any]:
            pipe = client.pipeline(transaction=False)
            for name in by_name:
                pipe.get(_hold_key(name))
                pipe.get(_state_key(name))
                pipe.pttl(_state_key(name))
            answers: list[Any] = await pipe.execute()
            return answers

        answers = await self._cache.run("hear of breakers", read)
        for (name, same), hold, state, left in zip(
            by_name.items(), answers[::3], answers[1::3], answers[2::3], strict=True
        ):
            self._adopt(same, self._news(_hold_key(name), hold), left)
            self._adopt(same, self._news(_state_key(name), state), left)

    def _news(self, key: str, stored: bytes | None) -> Mapping[str, Any]:
        """What is stored under a key, unless that is known, history, or not of our writing."""
        if stored is None:
            self._seen.setdefault(key, "")
            return {}
        try:
            record = orjson.loads(stored)
            version, _ = str(record["version"]), str(record["state"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            _log.warning("breaker_record_unreadable", key=key)
            return {}
        before = self._seen.get(key)
        self._seen[key] = version
        # A reset that was there before us, up to a day ago, was not of what we have seen since.
        return {} if version == before or (before is None and record["state"] == RESET) else dict(record)

    def _adopt(self, same: list[CircuitBreaker], record: Mapping[str, Any], left: int) -> None:
        self._adopting = True
        try:
            for breaker in same:
                _apply(breaker, record, left / 1000)
        finally:
            self._adopting = False


def _apply(breaker: CircuitBreaker, record: Mapping[str, Any], seconds: float) -> None:
    match record.get("state"):
        case State.OPEN.value if seconds > 0:
            openings = record.get("openings")
            breaker.opened_elsewhere(seconds, openings if isinstance(openings, int) else 1)
        case State.CLOSED.value:
            breaker.closed_elsewhere()
        case State.FORCED_OPEN.value:
            breaker.force_open()
        case State.DISABLED.value:
            breaker.disable()
        case state if state == RESET:
            breaker.reset()
        case _:
            pass


def _write(pipe: "redis.asyncio.client.Pipeline", breaker: CircuitBreaker, versions: dict[str, str]) -> None:
    """What others have to know of the state a breaker is in now."""
    hold, state = _hold_key(breaker.name), _state_key(breaker.name)
    match breaker.state:
        case State.OPEN:
            if (left := int(breaker.open_for * 1000)) > 0:
                pipe.set(state, _record(breaker, State.OPEN.value, state, versions), px=left)
        case State.HALF_OPEN:
            pass
        case State.CLOSED if breaker.reason == RESET:
            pipe.delete(state)
            pipe.set(hold, _record(breaker, RESET, hold, versions), ex=_RESET_SECONDS)
        case State.CLOSED:
            pipe.set(state, _record(breaker, State.CLOSED.value, state, versions), ex=_BACK_SECONDS)
        case State.FORCED_OPEN | State.DISABLED:
            pipe.set(hold, _record(breaker, breaker.state.value, hold, versions))
        case never:
            assert_never(never)


def _record(breaker: CircuitBreaker, state: str, key: str, versions: dict[str, str]) -> bytes:
    versions[key] = new_id()
    return orjson.dumps({"version": versions[key], "state": state, "openings": breaker.openings})


def _state_key(name: str) -> str:
    return f"breaker:{name}"


def _hold_key(name: str) -> str:
    return f"breaker-hold:{name}"
