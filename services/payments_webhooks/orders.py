"""What payments asks orders."""

from dataclasses import dataclass

from holdfast.orders.v1 import orders_pb2 as pb
from holdfast.orders.v1 import orders_pb2_grpc
from reliability import rpc
from reliability.errors import NotFound
from reliability.ids import is_id
from services.payments_webhooks.errors import OrderNotPayable

__all__ = ["Orders", "PayableOrder"]

_PENDING = "pending"


@dataclass(frozen=True, slots=True)
class PayableOrder:
    """An order that waits for its money; amount in minor units."""

    id: str
    number: str
    amount: int
    currency: str
    email: str


class Orders:
    """The orders RPCs in the words of this service."""

    def __init__(self, stub: "orders_pb2_grpc.OrdersServiceAsyncStub") -> None:
        self._stub = stub

    async def owned(self, order_id: str, account_id: str) -> pb.GetPayableOrderResponse:
        """An order of this customer's. Raises `NotFound` for everybody else's."""
        if not is_id(order_id):
            raise NotFound(f"There is no order {order_id!r}.")
        request = pb.GetPayableOrderRequest(order_id=order_id, customer_id=account_id)
        return await rpc.invoke(self._stub.GetPayableOrder, request, step="orders.GetPayableOrder")

    async def payable(self, order_id: str, account_id: str) -> PayableOrder:
        """An order of this customer's that can be paid now. Raises `NotFound`, `OrderNotPayable`."""
        order = await self.owned(order_id, account_id)
        if order.status != _PENDING:
            raise OrderNotPayable(f"Order {order.order_number} is {order.status}.")
        return PayableOrder(order_id, order.order_number, order.total.amount, order.total.currency, order.email)
