"""One process's opening, and what an operator holds by hand, seen by the others within a second.

Nothing here is on the way of a call: a task writes what changed and reads what others wrote, in one or two round
trips each time. What is shared are durations, the expiry of a key, so that no two clocks need agree; of what was done
by hand the last wins, by the clock of Redis, as far as a round trip lets tell. Without Redis every breaker goes on by
itself. Redis' own breaker is never shared, for who should tell?
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson
import redis.asyncio

from reliability.circuit_breaker.breaker import CircuitBreaker, breakers, watching
from reliability.circuit_breaker.model import RESET, State
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.redis import Cache, CacheUnavailable, Script
from reliability.telemetry import untraced

__all__ = ["share"]

# That a hold is over is told for a day, to processes that were cut off meanwhile; that a dependency is back, briefly.
_RESET_SECONDS: Final = 86_400
_BACK_SECONDS: Final = 10
_HELD: Final = frozenset({State.FORCED_OPEN, State.DISABLED})

# KEYS: the hold's, the state's. ARGV: the record, when it was done in microseconds, how many seconds it is kept or 0,
# and 1 for a reset. Answers 1, or 0 where something was done later.
_ACT: Final = Script(
    """
local stored = redis.call('GET', KEYS[1])
if stored then
  local readable, record = pcall(cjson.decode, stored)
  if readable and type(record) == 'table' and (tonumber(record.at) or 0) > tonumber(ARGV[2]) then
    return 0
  end
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2])
end
return 1
"""
)

_log = get_logger(__name__)


async def share(
    cache: Cache,
    shared: Iterable[CircuitBreaker] | None = None,
    *,
    every: float = 0.5,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Runs until it is cancelled; `every` are the seconds between two looks, `now` a monotonic clock in seconds.

    Shares every breaker of the process that is not `local`, also those made later, or just those given. Breakers
    of one name are the same dependency's. Raises `ValueError` when a local breaker is given.
    """
    chosen = None if shared is None else list(shared)
    if chosen is not None and any(breaker.local for breaker in chosen):
        raise ValueError("a local breaker is not shared")
    sharing = _Sharing(cache, chosen, now)
    with untraced(), watching(sharing.note):
        while True:
            await sharing.round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await sharing.news.wait()


class _Act(NamedTuple):
    """What an operator did with a breaker here, and when by this process's clock."""

    what: str
    when: float


class _Sharing:
    """What one process knows of the others, and what it has to tell them."""

    def __init__(self, cache: Cache, chosen: list[CircuitBreaker] | None, now: Callable[[], float]) -> None:
        self._cache = cache
        self._chosen = chosen
        self._now = now
        # Keys to versions: what was read or written before is no news.
        self._seen: dict[str, str] = {}
        # By name, the latest act that is known, by the clock of Redis in microseconds.
        self._acted: dict[str, int] = {}
        # What was done by hand is told whatever the breaker did since; of its own states only the present one.
        self._acts: dict[CircuitBreaker, _Act] = {}
        self._moved: set[CircuitBreaker] = set()
        self._adopting = False
        self._heard = -math.inf
        self.news = asyncio.Event()
        for breaker in self._breakers():
            if breaker.state is not State.CLOSED:
                self.note(breaker)

    def note(self, breaker: CircuitBreaker) -> None:
        """A breaker of this process has changed: by itself, or because we heard of it."""
        if self._adopting or breaker not in self._breakers():
            return
        if breaker.state in _HELD:
            self._acts[breaker] = _Act(breaker.state.value, self._now())
        elif breaker.state is State.CLOSED and breaker.reason == RESET:
            self._acts[breaker] = _Act(RESET, self._now())
        else:
            self._moved.add(breaker)
        self.news.set()

    async def round(self) -> None:
        """Tells and listens once. What cannot be told is told later: acts as they were, states if they still hold."""
        self.news.clear()
        try:
            await self._tell_acts()
            await self._tell_moves()
            await self._listen()
        except CacheUnavailable:
            pass  # the client has logged it

    def _breakers(self) -> list[CircuitBreaker]:
        return [breaker for breaker in breakers() if not breaker.local] if self._chosen is None else self._chosen

    async def _tell_acts(self) -> None:
        """Each unless something was done later elsewhere, which is then heard."""
        if not self._acts:
            return
        seconds, microseconds = await self._cache.call("breaker clock", ("TIME",))
        skew = int(seconds) + int(microseconds) / 1e6 - self._now()
        for breaker, act in tuple(self._acts.items()):
            # As the answer took its time an act looks older than it is, but not older than what it was done upon.
            at = int(max((act.when + skew) * 1e6, self._acted.get(breaker.name, 0) + 1))
            hold, version, reset = _hold_key(breaker.name), new_id(), act.what == RESET
            record = orjson.dumps({"version": version, "state": act.what, "at": at})
            arguments = (record.decode(), at, _RESET_SECONDS if reset else 0, int(reset))
            told = await self._cache.script("tell breaker", _ACT, [hold, _state_key(breaker.name)], arguments)
            if self._acts.get(breaker) is act:
                del self._acts[breaker]
            self._acted[breaker.name], self._seen[hold] = (at, version) if told else (0, "")

    async def _tell_moves(self) -> None:
        moved, versions = self._moved, dict[str, str]()
        if not moved:
            return

        async def write(client: redis.asyncio.Redis) -> None:
            pipe = client.pipeline(transaction=True)
            for breaker in moved:
                _write(pipe, breaker, versions)
            await pipe.execute()

        self._moved = set()
        try:
            await self._cache.run("tell breakers", write)
        except BaseException:
            self._moved |= moved
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
        heard, self._heard = self._heard, self._now()
        for (name, same), hold, state, left in zip(
            by_name.items(), answers[::3], answers[1::3], answers[2::3], strict=True
        ):
            if self._acts.keys().isdisjoint(same):  # else something was done here while we listened: that first
                news = self._news(_hold_key(name), hold)
                if isinstance(at := news.get("at"), int):
                    self._acted[name] = at
                self._adopt(same, news, left)
                if hold is None and heard > self._heard - _RESET_SECONDS:  # else it may be a reset that is over
                    self._remind(same)
            self._adopt(same, self._news(_state_key(name), state), left)

    def _remind(self, same: list[CircuitBreaker]) -> None:
        """Redis has lost its memory: a hold that was known is told again, as old as it was."""
        for breaker in same:
            if breaker.state in _HELD and self._acted.get(breaker.name):
                self._acts[breaker] = _Act(breaker.state.value, -math.inf)
                self.news.set()

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
    key, version = _state_key(breaker.name), new_id()
    record = orjson.dumps({"version": version, "state": breaker.state.value, "openings": breaker.openings})
    match breaker.state:
        case State.OPEN if (left := int(breaker.open_for * 1000)) > 0:
            pipe.set(key, record, px=left)
        case State.CLOSED if breaker.reason != RESET:
            pipe.set(key, record, ex=_BACK_SECONDS)
        case _:
            return
    versions[key] = version


def _state_key(name: str) -> str:
    return f"breaker:{name}"


def _hold_key(name: str) -> str:
    return f"breaker-hold:{name}"
