"""Turns the rows of the route table into endpoints."""

import re
from collections.abc import Iterable
from typing import Any, Final

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import principal
from reliability.errors import Conflict, DuplicateRequest, Unauthenticated
from services.admin.relay.domain import STAFF_ID, RpcRoute
from services.admin.relay.messages import model_for
from services.admin.relay.service import Relay

__all__ = ["endpoints"]

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PARAMETER: Final = re.compile(r"{(\w+)}")


def endpoints(table: Iterable[RpcRoute], relay: Relay) -> list[Endpoint]:
    """One endpoint for each row."""
    return [_endpoint(route, relay) for route in table]


def _endpoint(route: RpcRoute, relay: Relay) -> Endpoint:
    in_path = {route.id_field if name == "id" else name: name for name in _PARAMETER.findall(route.path)}
    in_body = route.method in {"POST", "PUT", "PATCH"}
    fields = model_for(route.request, leave_out={*in_path, STAFF_ID}, strict=in_body)

    async def handle(call: Call) -> Answer:
        who = principal.get()
        if who is None:
            raise Unauthenticated
        given: Any = call.body if in_body else call.query
        values = given.model_dump(mode="json", exclude_none=True)
        values |= {field: call.path(name) for field, name in in_path.items()}
        return Answer(await relay.call(route, values, who.id), route.status)

    return Endpoint(
        route.method,
        route.path,
        handle,
        access=Access.STAFF,
        permission=route.permission,
        key=KeyRule.REQUIRED if route.keyed else KeyRule.ACCEPTED,
        body=fields if in_body else None,
        query=None if in_body else fields,
        answer=model_for(route.answer, names=route.names, strict=False),
        status=route.status,
        problems=(
            *((Conflict,) if in_body or route.method == "DELETE" else ()),
            *((DuplicateRequest,) if route.once else ()),
        ),
        summary=_WORD.sub(" ", route.rpc.name).capitalize(),
    )
