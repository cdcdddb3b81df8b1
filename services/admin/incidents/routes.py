"""Incidents over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from reliability.context import principal
from reliability.errors import Unauthenticated
from services.admin.incidents.errors import IncidentResolved
from services.admin.incidents.schemas import IncidentItem, IncidentList, IncidentQuery
from services.admin.incidents.service import IncidentService

__all__ = ["endpoints"]

_PATH = "/api/admin/incidents"
_PERMISSION = "operations"


def endpoints(incidents: IncidentService) -> list[Endpoint]:
    """The routes of this capability."""

    async def page(call: Call) -> Answer:
        query: IncidentQuery = call.query
        found = await incidents.page(query.state, query.cursor, query.limit + 1)
        items = [IncidentItem.of(each) for each in found[: query.limit]]
        following = items[-1].id if len(found) > query.limit else None
        return Answer(IncidentList(items=items, next_cursor=following))

    async def acknowledge(call: Call) -> Answer:
        return Answer(IncidentItem.of(await incidents.acknowledge(call.path("id"), _staff())))

    async def resolve(call: Call) -> Answer:
        return Answer(IncidentItem.of(await incidents.resolve(call.path("id"), _staff())))

    return [
        Endpoint(
            "GET",
            _PATH,
            page,
            access=Access.STAFF,
            permission=_PERMISSION,
            query=IncidentQuery,
            answer=IncidentList,
        ),
        Endpoint(
            "POST",
            f"{_PATH}/{{id}}/acknowledge",
            acknowledge,
            access=Access.STAFF,
            permission=_PERMISSION,
            answer=IncidentItem,
            problems=(IncidentResolved,),
        ),
        Endpoint(
            "POST", f"{_PATH}/{{id}}/resolve", resolve, access=Access.STAFF, permission=_PERMISSION, answer=IncidentItem
        ),
    ]


def _staff() -> str:
    who = principal.get()
    if who is None:
        raise Unauthenticated
    return who.id
