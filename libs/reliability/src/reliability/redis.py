"""A Redis or Valkey client that fails fast and never repeats a call by itself.

redis-py retries by default: a `SET NX` whose reply was lost then finds its own key and calls it a duplicate, an
`INCR` counts twice. And a hung server holds a call for about a minute. Here: no retries, half a second per
socket operation, and an outer limit of two seconds or the request's deadline.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio
from opentelemetry import metrics
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reliability import deadline
from reliability.errors import DeadlineExceeded
from reliability.logging import get_logger

__all__ = ["Cache", "CacheUnavailable"]

T = TypeVar("T")

_log = get_logger(__name__)
_failures = metrics.get_meter("reliability").create_counter(
    "reliability.redis.failures", description="Redis calls that failed or timed out"
)


class CacheUnavailable(Exception):
    """Redis did not answer. Every caller has a way on without it, so this never reaches a client."""


class Cache:
    """The connection to Redis. Not for anything that must not be lost: the database carries the promises."""

    def __init__(self, url: str, *, socket_timeout: float = 0.5) -> None:
        self.client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=socket_timeout,
            socket_connect_timeout=socket_timeout,
            health_check_interval=0,
        )

    async def run(self, step: str, call: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
        """The result of `call(client)`; raises `CacheUnavailable` for every kind of failure."""
        try:
            async with deadline.limit(deadline.CACHE_CAP, step):
                return await call(self.client)
        except (RedisError, OSError, TimeoutError, DeadlineExceeded) as error:
            _failures.add(1, {"step": step, "error.type": type(error).__name__})
            _log.warning("redis_failed", step=step, error=type(error).__name__)
            raise CacheUnavailable(step) from error

    async def ready(self) -> bool:
        """Whether Redis answers; a service is ready without it."""
        try:
            await self.run("ping", lambda client: client.ping())
        except CacheUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Closes all connections."""
        await self.client.aclose()
