"""Asks every service whether it serves."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reliability import rpc
from reliability.errors import Problem
from reliability.health import Readiness

__all__ = ["Health", "HealthService", "ServiceHealth"]

_CAP: Final = 1.0
_KEPT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """`ok`, `degraded` (works, without something it can do without) or `down`; the milliseconds the answer took."""

    status: str
    ms: float
    without: tuple[str, ...] = ()


Health = Mapping[str, ServiceHealth]


class HealthService:
    """Everybody may ask, so what five calls found out is kept for two seconds."""

    def __init__(
        self,
        channels: Mapping[str, grpc.aio.Channel],
        own: tuple[str, Readiness],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        # The stub's methods are set at run time; its type knows none of them.
        self._checks: dict[str, Any] = {name: health_pb2_grpc.HealthStub(channel) for name, channel in channels.items()}
        self._own_name, self._own = own
        self._now = now
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Health] | None = None

    async def report(self) -> Health:
        """Each service by name."""
        async with self._asking:
            if self._kept is None or self._now() - self._kept[0] > _KEPT_SECONDS:
                states = await asyncio.gather(self._self(), *(self._ask(name) for name in self._checks))
                self._kept = self._now(), dict(zip([self._own_name, *self._checks], states, strict=True))
            return self._kept[1]

    async def _self(self) -> ServiceHealth:
        started = time.perf_counter()
        ready, checks = await self._own.report()
        without = tuple(name for name, state in checks.items() if state != "up")
        status = "down" if not ready else "degraded" if without else "ok"
        return ServiceHealth(status, _since(started), without)

    async def _ask(self, name: str) -> ServiceHealth:
        started = time.perf_counter()
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await rpc.invoke(self._checks[name].Check, request, step=f"{name}.Check", cap=_CAP, attempts=1)
        except Problem:
            return ServiceHealth("down", _since(started))
        serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        return ServiceHealth("ok" if serving else "down", _since(started))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
