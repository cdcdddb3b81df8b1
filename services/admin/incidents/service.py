"""Raising incidents, and what staff do about them."""

from typing import Final

from opentelemetry import metrics

from reliability import audit
from reliability.ids import is_id
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.admin.incidents import repository
from services.admin.incidents.domain import Incident, IncidentState, NewIncident
from services.admin.incidents.errors import IncidentResolved, NoSuchIncident

__all__ = ["IncidentService"]

_log = get_logger(__name__)
_raised: Final = metrics.get_meter("holdfast").create_counter(
    "holdfast.incidents.raised", description="Incidents by service and kind"
)


class IncidentService:
    """One list for all services."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def raise_incident(self, new: NewIncident) -> str:
        """Keeps an incident and answers its id; one its service has raised before stays as it is."""
        async with self._database.transaction("raise incident") as connection:
            incident_id, fresh = await repository.insert(connection, new)
        if fresh:
            _raised.add(1, {"service": new.service, "kind": new.kind})
            _log.error("incident_raised", incident=incident_id, service=new.service, kind=new.kind)
        return incident_id

    async def page(self, state: IncidentState | None, before: str | None, limit: int) -> list[Incident]:
        """Up to `limit` incidents, the newest first."""
        if before is not None and not is_id(before):
            return []
        async with self._database.connection() as connection:
            return await repository.page(connection, state, before, limit)

    async def acknowledge(self, incident_id: str, staff_id: str) -> Incident:
        """Somebody looks after it; who was first stays it. Raises `NoSuchIncident`, `IncidentResolved`."""
        async with self._database.transaction("acknowledge incident") as connection:
            found = await _existing(connection, incident_id)
            if found.state is IncidentState.RESOLVED:
                raise IncidentResolved
            if await repository.acknowledge(connection, incident_id, staff_id):
                await audit.record(connection, staff_id, "incident.acknowledged", incident_id)
            return await _existing(connection, incident_id)

    async def resolve(self, incident_id: str, staff_id: str) -> Incident:
        """It is over; again changes nothing. Raises `NoSuchIncident`."""
        async with self._database.transaction("resolve incident") as connection:
            await _existing(connection, incident_id)
            if await repository.resolve(connection, incident_id, staff_id):
                await audit.record(connection, staff_id, "incident.resolved", incident_id)
            return await _existing(connection, incident_id)


async def _existing(connection: Connection, incident_id: str) -> Incident:
    found = await repository.lock(connection, incident_id) if is_id(incident_id) else None
    if found is None:
        raise NoSuchIncident
    return found
