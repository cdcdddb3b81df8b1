"""A customer's own orders over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import principal
from services.orders.history.schemas import (
    OrderPage,
    OrderView,
    ReorderView,
    SpendingQuery,
    SpendingView,
    SummaryView,
)
from services.orders.history.service import HistoryService
from services.orders.pages import PageQuery, next_cursor

__all__ = ["HistoryRoutes"]

_ORDERS = "/api/me/orders"


class HistoryRoutes:
    """Decode, call, encode."""

    def __init__(self, service: HistoryService) -> None:
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        mine, required = Access.CUSTOMER, KeyRule.REQUIRED
        return [
            Endpoint("GET", _ORDERS, self._list, access=mine, query=PageQuery, answer=OrderPage),
            Endpoint("GET", f"{_ORDERS}/{{id}}", self._show, access=mine, answer=OrderView),
            Endpoint("POST", f"{_ORDERS}/{{id}}/cancel", self._cancel, access=mine, key=required, answer=OrderView),
            Endpoint("POST", f"{_ORDERS}/{{id}}/reorder", self._reorder, access=mine, key=required, answer=ReorderView),
            Endpoint("GET", "/api/me/spending", self._spending, access=mine, query=SpendingQuery, answer=SpendingView),
        ]

    async def _list(self, call: Call) -> Answer:
        page: PageQuery = call.query
        found = await self._service.orders(customer_id(), page.after(), page.limit)
        items = [SummaryView.of(order) for order in found[: page.limit]]
        return Answer(OrderPage(items=items, next_cursor=next_cursor(found, page.limit)))

    async def _show(self, call: Call) -> Answer:
        return Answer(await self._service.order(customer_id(), call.path("id")))

    async def _cancel(self, call: Call) -> Answer:
        return Answer(await self._service.cancel(customer_id(), call.path("id")))

    async def _reorder(self, call: Call) -> Answer:
        return Answer(await self._service.reorder(customer_id(), call.path("id")))

    async def _spending(self, call: Call) -> Answer:
        return Answer(SpendingView.of(await self._service.spending(customer_id(), call.query.currency)))


def customer_id() -> str:
    """Who is asking; the edge has let nobody through who is not signed in."""
    who = principal.get()
    assert who is not None  # Access.CUSTOMER
    return who.id
