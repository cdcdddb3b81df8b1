"""Which flows an order or a customer is of: orders says, spans know only the flow."""

from typing import TYPE_CHECKING, Final

from holdfast.orders.v1 import order_desk_pb2 as pb
from reliability import rpc
from reliability.errors import NotFound, Problem

if TYPE_CHECKING:
    from holdfast.orders.v1.order_desk_pb2_grpc import OrderDeskServiceAsyncStub

__all__ = ["Flows"]

_MOST: Final = 100


class Flows:
    """Asks for correlation ids."""

    def __init__(self, desk: "OrderDeskServiceAsyncStub") -> None:
        self._desk = desk

    async def of_order(self, order_id: str) -> list[str]:
        """The flow of an order; none of an unknown one."""
        request = pb.GetOrderRequest(order_id=order_id)
        try:
            order = await rpc.invoke(self._desk.GetOrder, request, step="orders.GetOrder")
        except Problem as problem:
            if problem.code != NotFound.code:
                raise
            return []
        return [order.correlation_id]

    async def of_customer(self, customer_id: str) -> list[str]:
        """The flows of a customer's orders, of the newest hundred."""
        request = pb.ListOrdersRequest(customer_id=customer_id, limit=_MOST)
        page = await rpc.invoke(self._desk.ListOrders, request, step="orders.ListOrders")
        return [order.correlation_id for order in page.items]
