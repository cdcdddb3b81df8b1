"""Dead letters over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from reliability.context import principal
from reliability.errors import Unauthenticated
from services.admin.operations.errors import NoSuchJob
from services.admin.operations.schemas import DeadLetterItem, DeadLetterList, DeadLetterQuery, Redriven
from services.admin.operations.service import OperationsService

__all__ = ["endpoints"]

_PATH = "/api/admin/jobs"
_PERMISSION = "operations"


def endpoints(operations: OperationsService) -> list[Endpoint]:
    """The routes of this capability."""

    async def page(call: Call) -> Answer:
        query: DeadLetterQuery = call.query
        found = await operations.dead_letters(query.before, query.limit)
        items = [DeadLetterItem.of(letter) for letter in found.items]
        following = str(found.items[-1].place) if len(items) == query.limit else None
        return Answer(DeadLetterList(items=items, next_cursor=following, degraded=list(found.degraded)))

    async def redrive(call: Call) -> Answer:
        who = principal.get()
        if who is None:
            raise Unauthenticated
        return Answer(Redriven(id=str(await operations.redrive(call.path("id"), who.id))))

    return [
        Endpoint(
            "GET",
            _PATH,
            page,
            access=Access.STAFF,
            permission=_PERMISSION,
            query=DeadLetterQuery,
            answer=DeadLetterList,
            summary="List dead letters",
        ),
        Endpoint(
            "POST",
            f"{_PATH}/{{id}}/redrive",
            redrive,
            access=Access.STAFF,
            permission=_PERMISSION,
            answer=Redriven,
            problems=(NoSuchJob,),
        ),
    ]
