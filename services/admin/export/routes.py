"""The export over HTTP."""

from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from holdfast.orders.v1 import order_desk_pb2 as pb
from reliability.asgi import Access, Call, Endpoint
from services.admin.export.service import ExportService
from services.admin.relay.messages import model_for

__all__ = ["endpoints"]

_PATH: Final = "/api/admin/orders/export"
_QUERY: Final = model_for(pb.ListOrdersRequest.DESCRIPTOR, leave_out={"limit"}, strict=False)


def endpoints(service: ExportService) -> list[Endpoint]:
    """The table."""

    async def export(call: Call) -> Response:
        which = call.query.model_dump(mode="json", exclude_none=True)
        table, following = await service.orders(which)
        headers = {"Content-Disposition": 'attachment; filename="orders.csv"', "Cache-Control": "no-store"}
        if following is not None:
            headers["Link"] = f'<{_PATH}?{urlencode(which | {"cursor": following})}>; rel="next"'
        return Response(table, headers=headers, media_type="text/csv")

    return [
        Endpoint(
            "GET",
            _PATH,
            export,
            access=Access.STAFF,
            permission="orders",
            query=_QUERY,
            produces="text/csv",
            summary="Orders as CSV; a Link header leads to the next part",
        )
    ]
