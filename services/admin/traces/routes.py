"""Traces over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from services.admin.traces.flows import Flows
from services.admin.traces.schemas import SpanItem, TraceItem, TraceList, TraceQuery, TraceResponse
from services.admin.traces.service import TraceService

__all__ = ["endpoints"]

_PERMISSION = "operations"


def endpoints(traces: TraceService, flows: Flows) -> list[Endpoint]:
    """The routes of this capability."""

    async def asked_for(query: TraceQuery) -> list[str] | None:
        if query.order_id is not None:
            return await flows.of_order(str(query.order_id))
        if query.customer_id is not None:
            return await flows.of_customer(str(query.customer_id))
        return [query.correlation_id] if query.correlation_id is not None else None

    async def page(call: Call) -> Answer:
        query: TraceQuery = call.query
        found, following = await traces.page(await asked_for(query), query.position, query.limit)
        items = [TraceItem.of(trace) for trace in found]
        return Answer(TraceList(items=items, next_cursor=following.encode() if following else None))

    async def one(call: Call) -> Answer:
        trace_id = call.path("id")
        spans = [SpanItem.of(span) for span in await traces.spans(trace_id)]
        return Answer(TraceResponse(trace_id=trace_id, spans=spans))

    return [
        Endpoint(
            "GET",
            "/api/admin/traces",
            page,
            access=Access.STAFF,
            permission=_PERMISSION,
            query=TraceQuery,
            answer=TraceList,
        ),
        Endpoint(
            "GET",
            "/api/admin/traces/{id}",
            one,
            access=Access.STAFF,
            permission=_PERMISSION,
            answer=TraceResponse,
        ),
    ]
