"""The health of the system over HTTP."""

from reliability.asgi import Answer, Call, Endpoint
from services.admin.health.schemas import HealthResponse
from services.admin.health.service import HealthService

__all__ = ["endpoints"]


def endpoints(health: HealthService) -> list[Endpoint]:
    """The routes of this capability."""

    async def report(_call: Call) -> Answer:
        # 200 even when degraded: the gateway and admin do answer, and /readyz is what probes read.
        return Answer(HealthResponse.of(await health.report()), headers={"Cache-Control": "no-store"})

    return [Endpoint("GET", "/api/health", report, answer=HealthResponse)]
