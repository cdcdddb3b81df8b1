"""Liveness never touches a dependency; readiness does."""

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

__all__ = ["Readiness", "health_routes"]

Check = Callable[[], Awaitable[bool]]


class Readiness:
    """Whether to send work here: every required check passes and no drain has begun."""

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> None:
        self._required = required
        self._optional = optional or {}
        self.draining = False

    async def report(self) -> tuple[bool, dict[str, str]]:
        """Ready or not, and each dependency as `up`, `down` or, when one can do without it, `degraded`."""
        states = {name: "up" if await check() else "down" for name, check in self._required.items()}
        ready = not self.draining and "down" not in states.values()
        states |= {name: "up" if await check() else "degraded" for name, check in self._optional.items()}
        return ready, states | ({"drain": "down"} if self.draining else {})


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
