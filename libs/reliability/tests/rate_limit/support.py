"""What the tests of the limits ask with, count with and let time pass with."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from reliability.errors import RateLimited
from reliability.rate_limit import Algorithm, Policy, RateLimiter, limiter
from reliability.rate_limit.fallback import Fallback
from reliability.redis import Cache
from reliability.tally import Tally

# Nothing listens on port 1: a Redis that is away.
NOWHERE = "redis://127.0.0.1:1/0"
HOUR = 3600
GCRA = Algorithm.GCRA
# One every ten minutes, six at once.
PACED = Policy("paced", 6, HOUR, GCRA)


class Decisions:
    """What was counted, by policy, outcome and basis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reader = InMemoryMetricReader()
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "get_meter", MeterProvider([self._reader]).get_meter)
            fresh = Tally("decisions", "Decisions", ["policy", "outcome", "basis"])
        monkeypatch.setattr(limiter, "_decisions", fresh)

    def seen(self) -> dict[str, int]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        return {
            " ".join(str((point.attributes or {})[name]) for name in ("policy", "outcome", "basis")): int(
                getattr(point, "value", 0)
            )
            for point in points
        }


async def tried(limiter: RateLimiter, *limits: tuple[Policy, str], cost: int = 1) -> int | None:
    """None when the request passed, else the seconds to wait."""
    try:
        await limiter.check(limits, cost=cost)
    except RateLimited as refused:
        wait = refused.retry_after
    else:
        return None
    assert wait is not None
    assert wait == int(wait) >= 1
    return int(wait)


async def passed(limiter: RateLimiter, *limits: tuple[Policy, str], times: int, cost: int = 1) -> int:
    """How many of so many requests at once passed."""
    waits = await asyncio.gather(*(tried(limiter, *limits, cost=cost) for _ in range(times)))
    return waits.count(None)


async def pass_time(cache: Cache, seconds: int) -> None:
    """As if `seconds` had gone by. The script knows the server's clock only, so what it keeps is moved back instead."""
    async for key in cache.client.scan_iter("*"):
        if (left := await cache.client.pttl(key) - seconds * 1000) <= 0:
            await cache.client.delete(key)
            continue
        if key.startswith(b"gcra:"):
            arrival = int(await cache.client.get(key) or 0)
            await cache.client.set(key, arrival - seconds * 1_000_000, keepttl=True)
        await cache.client.pexpire(key, left)


async def server_time(cache: Cache) -> int:
    """Microseconds since 1970."""
    seconds, micros = await cache.client.time()
    return int(seconds) * 1_000_000 + int(micros)


# RFC 9651, sections 3.1, 3.1.2, 3.3.1, 3.3.3: a List of Strings with Integers as parameters.
_ITEM = re.compile(r'"(?P<name>[\x20-\x21\x23-\x5b\x5d-\x7e]*)"(?P<parameters>(;[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*)')


def parsed(value: str) -> list[tuple[str, dict[str, int]]]:
    """The members of a structured field."""
    members = []
    for text in value.split(", "):
        item = _ITEM.fullmatch(text)
        assert item, text
        pairs = (pair.split("=") for pair in item["parameters"].split(";")[1:])
        members.append((item["name"], {name: int(number) for name, number in pairs}))
    return members


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def without_redis(cache: Cache, clock: Callable[[], float], processes: int = 1) -> RateLimiter:
    """A limiter whose fallback has a clock of ours."""
    limiter = RateLimiter(cache, processes=processes)
    limiter._fallback = Fallback(processes, clock)
    return limiter
