"""The health answer."""

from typing import Literal, Self

from pydantic import BaseModel

from services.admin.health.service import Health

__all__ = ["HealthResponse", "ServiceStatus"]


class ServiceStatus(BaseModel):
    """One service: `ok`, `degraded` or `down`, how long it took to say so, and what it does without."""

    status: str
    ms: float
    without: list[str]


class HealthResponse(BaseModel):
    """The whole system; `degraded` names the services that are not `ok`."""

    status: Literal["ok", "degraded"]
    degraded: list[str]
    services: dict[str, ServiceStatus]

    @classmethod
    def of(cls, health: Health) -> Self:
        """The answer for a report."""
        degraded = sorted(name for name, service in health.items() if service.status != "ok")
        services = {
            name: ServiceStatus(status=service.status, ms=service.ms, without=list(service.without))
            for name, service in sorted(health.items())
        }
        return cls(status="degraded" if degraded else "ok", degraded=degraded, services=services)
