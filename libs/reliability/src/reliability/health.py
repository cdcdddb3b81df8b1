"""Liveness never touches a dependency; readiness does."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

__all__ = ["Readiness", "health_routes"]

Check = Callable[[], Coroutine[Any, Any, bool]]
_CHECK_SECONDS: Final = 0.8


class Readiness:
    """Whether to send work here: every required check passes and no drain has begun."""

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> None:
        self._required = required
        self._optional = optional or {}
        self.draining = False

    async def report(self) -> tuple[bool, dict[str, str]]:
        """Ready or not, and each dependency as `up`, `down` or, when one can do without it, `degraded`."""
        names = [*self._required, *self._optional]
        passed = await asyncio.gather(*map(_passes, (*self._required.values(), *self._optional.values())))
        down = {name: "down" if name in self._required else "degraded" for name in names}
        states = {name: "up" if up else down[name] for name, up in zip(names, passed, strict=True)}
        ready = not self.draining and "down" not in states.values()
        return ready, states | ({"drain": "down"} if self.draining else {})


async def _passes(check: Check) -> bool:
    """Within a second: a probe must not fail because a dependency one can do without is slow to say so."""
    running = asyncio.ensure_future(check())
    try:
        await asyncio.wait({running}, timeout=_CHECK_SECONDS)
    finally:
        running.cancel()
    return running.done() and not running.cancelled() and running.exception() is None and running.result()


def health_routes(readiness: Readiness) -> list[BaseRoute]:
    """`/livez`, `/readyz` and `/metrics`; internal, the gateway does not route them."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        ready, states = await readiness.report()
        return JSONResponse({"ready": ready, "checks": states}, 200 if ready else 503)

    async def prometheus(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", prometheus)]
