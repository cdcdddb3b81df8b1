"""The dashboard over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from services.admin.dashboard.schemas import DashboardResponse
from services.admin.dashboard.service import DashboardService

__all__ = ["endpoints"]


def endpoints(dashboard: DashboardService, currency: str) -> list[Endpoint]:
    """The routes of this capability."""

    async def today(_call: Call) -> Answer:
        return Answer(DashboardResponse.of(await dashboard.today(), currency))

    # No permission: what every member of staff sees first.
    return [Endpoint("GET", "/api/admin/dashboard", today, access=Access.STAFF, answer=DashboardResponse)]
