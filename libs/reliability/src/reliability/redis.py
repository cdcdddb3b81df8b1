"""A Redis or Valkey client that fails fast and never repeats a call by itself.

redis-py retries by default: a `SET NX` whose reply was lost then finds its own key and calls it a duplicate, an
`INCR` counts twice. And a hung server holds a call for about a minute. Here: no retries, half a second per
socket operation, and an outer limit of two seconds or the request's deadline. A Redis that hangs costs three calls
their half second; then a circuit breaker spares the others the wait and asks again every second or two.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import redis.asyncio
from opentelemetry import metrics
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from reliability import deadline
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Outcome, Rules
from reliability.errors import DeadlineExceeded
from reliability.logging import get_logger
from reliability.wire import Command, Wire

__all__ = ["CONNECTIONS", "Cache", "CacheUnavailable", "Script"]

T = TypeVar("T")

BREAKER: Final = Rules(failures=3, window=60.0, open_seconds=1.0, open_cap=2.0, permit_seconds=deadline.CACHE_CAP)
"""Short openings: a Redis that is back shall be used at once, and a try costs one caller half a second."""

CONNECTIONS: Final = 50
"""Per process. More at once take turns, which costs them less than a connection each would cost Redis."""

_log = get_logger(__name__)
_failures = metrics.get_meter("reliability").create_counter(
    "reliability.redis.failures", description="Redis calls that failed, timed out or were not made"
)


class CacheUnavailable(Exception):
    """Redis did not answer. Every caller has a way on without it, so this never reaches a client."""


class Script:
    """Lua that runs inside the server. It is known there by its hash, so that its text is sent once."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _judge(error: Exception) -> Outcome:
    """An error that Redis answers is an answer. A call whose request was out of time says nothing about Redis."""
    match error:
        case ResponseError():
            return Outcome.SUCCEEDED
        case RedisError() | OSError():  # a TimeoutError is an OSError
            return Outcome.FAILED
        case DeadlineExceeded() if deadline.remaining(deadline.CACHE_CAP) > 0:  # it was our own cap
            return Outcome.FAILED
        case _:
            return Outcome.NEUTRAL


class _Pool(redis.asyncio.BlockingConnectionPool):
    """Connections that callers take turns on, and of which the idle ones can be forgotten.

    redis-py's usual pool refuses whoever comes when all are taken: a crowd would then pass the dedup and the limits
    that are there for crowds.
    """

    async def forget_idle(self) -> None:
        """Closes what nobody uses: after a restart or a failover they are dead as well, and each would fail a call.

        redis-py sees that before it sends only where the other side closed in good order.
        """
        for connection in tuple(self._available_connections):
            if connection in self._available_connections:  # not taken meanwhile
                await connection.disconnect(nowait=True)


def _cancel_requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _obey(asked: int) -> None:
    """Goes on with a cancellation that redis-py has lost.

    It sends with `asyncio.wait_for`, which before Python 3.12 forgets that its task was cancelled when what it
    waits for is done at the same moment (https://github.com/python/cpython/issues/86296). A task that was cancelled
    once and goes on may never end.
    """
    if _cancel_requests() > asked:
        raise asyncio.CancelledError


class Cache:
    """The connection to Redis. Not for anything that must not be lost: the database carries the promises.

    `call` and `script` share one connection (see `wire`) and are what a request should use; `run` is for everything
    redis-py can do. Each step of a socket has `socket_timeout` seconds. Its breaker is this process's own: what Redis
    does to us cannot be told through Redis.
    """

    def __init__(self, url: str, *, socket_timeout: float = 0.5, rules: Rules = BREAKER) -> None:
        self.breaker = CircuitBreaker("redis", rules, judge=_judge, local=True)
        self._pool = _Pool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=None,  # `run` ends the wait; a connection comes back within a socket timeout, so Redis was slow
            retry=Retry(NoBackoff(), 0),
            socket_timeout=socket_timeout,
            socket_connect_timeout=socket_timeout,
            health_check_interval=0,
        )
        self._wire = Wire(self._pool.make_connection, socket_timeout)
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(self._pool)

    async def run(self, step: str, call: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        """The result of `call(client)`; raises `CacheUnavailable` for every kind of failure.

        At once, without a call, while the breaker is open.
        """
        asked = _cancel_requests()
        try:
            with self.breaker.allow():
                async with deadline.limit(deadline.CACHE_CAP, step):
                    answer = await call(self.client)
                _obey(asked)
        except (CircuitOpen, RedisError, OSError, DeadlineExceeded) as error:  # a TimeoutError is an OSError
            await self._failed(step, error)
            _obey(asked)
            raise CacheUnavailable(step) from error
        return answer

    async def call(self, step: str, *commands: Command) -> Any:
        """What Redis answers to a command, as it came: texts are bytes. To several, sent in one write, a list.

        Raises `CacheUnavailable`, as `run` does; also when any of the answers is an error.
        """
        try:
            with self.breaker.allow():
                answers = await self._send(step, *commands)
                for answer in answers:
                    if isinstance(answer, ResponseError):
                        raise answer
        except (CircuitOpen, RedisError, OSError, DeadlineExceeded) as error:
            await self._failed(step, error)
            raise CacheUnavailable(step) from error
        return answers[0] if len(commands) == 1 else answers

    async def script(self, step: str, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """What a script answers. A server that has not seen it, or has forgotten it, is sent it: one more round trip.

        Raises `CacheUnavailable`.
        """
        rest = (len(keys), *keys, *arguments)
        try:
            with self.breaker.allow():
                (answer,) = await self._send(step, ("EVALSHA", script.sha, *rest))
                if isinstance(answer, NoScriptError):
                    (answer,) = await self._send(step, ("EVAL", script.text, *rest))
                if isinstance(answer, ResponseError):
                    raise answer
        except (CircuitOpen, RedisError, OSError, DeadlineExceeded) as error:
            await self._failed(step, error)
            raise CacheUnavailable(step) from error
        return answer

    async def _send(self, step: str, *commands: Command) -> list[Any]:
        seconds = deadline.remaining(deadline.CACHE_CAP)
        if seconds <= 0:
            raise DeadlineExceeded(step)
        return await self._wire.call(step, seconds, *commands)

    async def _failed(self, step: str, error: Exception) -> None:
        _failures.add(1, {"step": step, "error.type": type(error).__name__})
        if isinstance(error, CircuitOpen):
            return
        _log.warning("redis_failed", step=step, error=type(error).__name__)
        if _judge(error) is Outcome.FAILED:
            await self._pool.forget_idle()

    async def ready(self) -> bool:
        """Whether Redis answers; a service is ready without it. Of an open breaker it is the probe when that is due."""
        try:
            await self.call("ping", ("PING",))
        except CacheUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Closes all connections."""
        await self._wire.close()
        await self.client.aclose()
