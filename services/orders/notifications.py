"""What orders asks notifications."""

from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.common.v1.money_pb2 import Money
from holdfast.notifications.v1 import notifications_pb2 as pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from reliability import rpc
from services.orders.audience.domain import Purchase

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

    async def record_paid(self, purchase: Purchase) -> None:
        """Tells of an order that was paid."""
        request = pb.RecordOrderPaidRequest(
            order_id=purchase.order_id,
            customer_id=purchase.customer_id or "",
            email=purchase.email,
            total=Money(amount=purchase.total, currency=purchase.currency),
            product_ids=purchase.product_ids,
        )
        request.paid_at.FromDatetime(purchase.paid_at)
        await rpc.invoke(self._stub.RecordOrderPaid, request, step="notifications.RecordOrderPaid")

    async def record_refunded(self, purchase: Purchase) -> None:
        """Tells how much of an order went back in all."""
        request = pb.RecordOrderRefundedRequest(
            order_id=purchase.order_id,
            refunded=Money(amount=purchase.refunded, currency=purchase.currency),
            refunds_known=purchase.refunds_known,
        )
        await rpc.invoke(self._stub.RecordOrderRefunded, request, step="notifications.RecordOrderRefunded")
