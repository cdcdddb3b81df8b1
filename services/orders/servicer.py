"""The orders RPCs."""

from datetime import UTC
from typing import Any, TypeAlias, assert_never

import grpc.aio

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2 as pb
from holdfast.orders.v1 import orders_pb2_grpc
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.ids import is_id
from services.orders.erasure.service import ErasureService
from services.orders.order.domain import PaymentOutcome
from services.orders.order.repository import NewPayment
from services.orders.order.service import OrderService
from services.orders.refund.domain import NewRefund
from services.orders.refund.service import RefundService

__all__ = ["OrdersServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class OrdersServicer(orders_pb2_grpc.OrdersServiceServicer):
    """Translates."""

    def __init__(self, service: OrderService, refunds: RefundService, erasure: ErasureService) -> None:
        self._service = service
        self._refunds = refunds
        self._erasure = erasure

    async def RecordPayment(self, request: pb.RecordPaymentRequest, context: Context) -> pb.RecordPaymentResponse:
        """See the proto."""
        payment = NewPayment(
            request.payment_intent_id, _order_id(request.order_id), request.amount.amount, request.amount.currency
        )
        outcome = await self._service.record_payment(payment)
        crash_point("payment.not_answered")
        match outcome:
            case PaymentOutcome.APPLIED:
                return pb.RecordPaymentResponse(outcome=pb.PAYMENT_OUTCOME_APPLIED)
            case PaymentOutcome.REFUND:
                return pb.RecordPaymentResponse(outcome=pb.PAYMENT_OUTCOME_REFUND)
            case _:
                assert_never(outcome)

    async def RecordRefund(self, request: pb.RecordRefundRequest, context: Context) -> pb.RecordRefundResponse:
        """See the proto."""
        await self._refunds.record(
            NewRefund(
                request.refund_id,
                _order_id(request.order_id),
                request.amount.amount,
                request.amount.currency,
                request.payment_intent_id,
                request.idempotency_key,
            )
        )
        crash_point("refund.recorded_not_answered")
        return pb.RecordRefundResponse()

    async def RecordRefundFailed(
        self, request: pb.RecordRefundFailedRequest, context: Context
    ) -> pb.RecordRefundFailedResponse:
        """See the proto."""
        refund = NewRefund(
            request.refund_id,
            _order_id(request.order_id),
            request.amount.amount,
            request.amount.currency,
            key=request.idempotency_key,
        )
        await self._refunds.record_failed(refund, request.reason)
        return pb.RecordRefundFailedResponse()

    async def GetPayableOrder(self, request: pb.GetPayableOrderRequest, context: Context) -> pb.GetPayableOrderResponse:
        """See the proto."""
        order = await self._service.payable(_order_id(request.order_id), request.customer_id)
        answer = pb.GetPayableOrderResponse(
            order_number=order.number,
            total=money_pb2.Money(amount=order.total, currency=order.currency),
            email=order.email,
            status=order.status,
        )
        answer.hold_expires_at.FromDatetime(order.hold_expires_at)
        return answer

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Context) -> pb.GetSummaryResponse:
        """See the proto."""
        summary = await self._service.summary(request.since.ToDatetime(UTC))
        return pb.GetSummaryResponse(
            orders=summary.orders,
            revenue=[money_pb2.Money(amount=amount, currency=name) for name, amount in summary.revenue.items()],
            pending_orders=summary.pending,
            dead_letters=summary.dead_letters,
        )

    async def ForgetCustomer(self, request: pb.ForgetCustomerRequest, context: Context) -> pb.ForgetCustomerResponse:
        """See the proto."""
        return pb.ForgetCustomerResponse(kept=await self._erasure.forget(request.customer_id))


def _order_id(value: str) -> str:
    if not is_id(value):
        raise NotFound(f"There is no order {value!r}.")
    return value
