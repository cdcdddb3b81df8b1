"""The desk's RPCs on orders."""

from datetime import datetime
from typing import Any, TypeAlias

import grpc.aio

from holdfast.common.v1.money_pb2 import Money
from holdfast.orders.v1 import order_desk_pb2 as pb
from holdfast.orders.v1 import order_desk_pb2_grpc
from reliability.errors import NotFound
from reliability.ids import is_id
from services.orders.desk import messages
from services.orders.desk.schemas import Cancel, Fulfil, OrderFilter, Refund, checked
from services.orders.desk.service import OrderDesk
from services.orders.order.cancellation import CancellationService
from services.orders.order.domain import Order
from services.orders.order.fulfilment import FulfilmentService, Shipment
from services.orders.pages import next_cursor
from services.orders.refund.domain import RefundRequest
from services.orders.refund.service import RefundService

__all__ = ["OrderDeskServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class OrderDeskServicer(order_desk_pb2_grpc.OrderDeskServiceServicer):
    """Translates."""

    def __init__(
        self,
        desk: OrderDesk,
        refunds: RefundService,
        cancellation: CancellationService,
        fulfilment: FulfilmentService,
    ) -> None:
        self._desk = desk
        self._refunds = refunds
        self._cancellation = cancellation
        self._fulfilment = fulfilment

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        """See the proto."""
        which = checked(OrderFilter, messages.given(request, *pb.ListOrdersRequest.DESCRIPTOR.fields_by_name))
        rows = await self._desk.orders(which)
        items = [messages.summary(row) for row in rows[: which.limit]]
        return pb.ListOrdersResponse(items=items, next_cursor=next_cursor(rows, which.limit))

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        """See the proto."""
        return messages.order(await self._desk.order(_known(request.order_id)))

    async def RefundOrder(self, request: pb.RefundOrderRequest, context: Context) -> pb.RefundOrderResponse:
        """See the proto."""
        wanted = checked(Refund, {"reason": request.reason, **messages.given(request, "amount")})
        amount = (wanted.amount.amount, wanted.amount.currency) if wanted.amount else None
        return await self._refunds.by_staff(
            _known(request.order_id), amount, wanted.reason, request.staff_id, _asked_for
        )

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        """See the proto."""
        reason = checked(Cancel, {"reason": request.reason}).reason
        await self._cancellation.by_staff(_known(request.order_id), reason, request.staff_id)
        return pb.CancelOrderResponse(order_id=request.order_id, status="cancelled")

    async def FulfilOrder(self, request: pb.FulfilOrderRequest, context: Context) -> pb.FulfilOrderResponse:
        """See the proto."""
        wanted = checked(Fulfil, messages.given(request, "carrier", "tracking_number", "tracking_url"))
        shipment = Shipment(**wanted.model_dump())
        return await self._fulfilment.fulfil(_known(request.order_id), shipment, request.staff_id, _handed_over)

    async def ResendConfirmation(
        self, request: pb.ResendConfirmationRequest, context: Context
    ) -> pb.ResendConfirmationResponse:
        """See the proto."""
        return await self._fulfilment.confirm_again(_known(request.order_id), request.staff_id, _confirmed)


def _known(order_id: str) -> str:
    if not is_id(order_id):
        raise NotFound
    return order_id


def _asked_for(request: RefundRequest) -> pb.RefundOrderResponse:
    return pb.RefundOrderResponse(
        refund_id=request.id,
        order_id=request.order_id,
        amount=Money(amount=request.amount, currency=request.currency),
        state=request.state,
    )


def _handed_over(order: Order, at: datetime) -> pb.FulfilOrderResponse:
    return pb.FulfilOrderResponse(order_id=order.id, status=order.status, fulfilled_at=messages.stamp(at))


def _confirmed(order: Order) -> pb.ResendConfirmationResponse:
    return pb.ResendConfirmationResponse(order_id=order.id, email=order.email)
