"""What orders asks notifications."""

from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.common.v1.money_pb2 import Money
from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability import rpc
from reliability.errors import Unavailable
from services.orders.audience.domain import Refunded
from services.orders.order.domain import Order

__all__ = ["Notifications"]


class Notifications:
    """Mail, once per idempotency key; and who bought what."""

    def __init__(self, stub: "notifications_pb2_grpc.NotificationsServiceAsyncStub") -> None:
        self._stub = stub

    async def send(self, key: str, to: str, template: str, data: Mapping[str, Any], *, calendar_ics: str = "") -> None:
        """Hands one mail over, with a calendar file if there is one; from then on it is notifications' promise."""
        request = pb.SendEmailRequest(
            idempotency_key=key,
            to=to,
            template=template,
            data_json=orjson.dumps(data).decode(),
            calendar_ics=calendar_ics,
        )
        await rpc.invoke(self._stub.SendEmail, request, step="notifications.SendEmail")

    async def record_paid(self, order: Order, confirmation: Mapping[str, Any] | None = None) -> None:
        """Tells of an order that was paid and hands its confirmation over, if there is one; both once per order.

        Raises `Unavailable` also when notifications is still a version that would forget the mail.
        """
        assert order.paid_at is not None  # it is paid
        request = pb.RecordOrderPaidRequest(
            order_id=order.id,
            customer_id=order.customer_id or "",
            email=order.email,
            total=Money(amount=order.total, currency=order.currency),
            product_ids=sorted({line.product_id for line in order.lines if line.product_id}),
            confirmation_json=orjson.dumps(confirmation).decode() if confirmation else "",
        )
        request.paid_at.FromDatetime(order.paid_at)
        answer = await rpc.invoke(self._stub.RecordOrderPaid, request, step="notifications.RecordOrderPaid")
        if confirmation and not answer.email_id:
            raise Unavailable("Notifications does not send confirmations yet.")

    async def record_refunded(self, refunded: Refunded) -> None:
        """Tells how much of an order went back in all."""
        request = pb.RecordOrderRefundedRequest(
            order_id=refunded.order_id,
            refunded=Money(amount=refunded.refunded, currency=refunded.currency),
            refunds_known=refunded.refunds_known,
        )
        await rpc.invoke(self._stub.RecordOrderRefunded, request, step="notifications.RecordOrderRefunded")
