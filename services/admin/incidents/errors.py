"""What can go wrong with an incident.

NotFound 404 ── NoSuchIncident
Conflict 409 ── IncidentResolved
"""

from reliability.errors import Conflict, NotFound

__all__ = ["IncidentResolved", "NoSuchIncident"]


class NoSuchIncident(NotFound):
    """The id names no incident."""

    code, title = "incident_not_found", "There is no such incident"


class IncidentResolved(Conflict):
    """It is over: nobody can acknowledge it any more."""

    code, title = "incident_resolved", "This incident is resolved"
