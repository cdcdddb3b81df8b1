"""The jobs of an order."""

from reliability.jobs import Worker
from services.orders.order.cancellation import CancellationService
from services.orders.order.fulfilment import FulfilmentService
from services.orders.order.repository import SETTLE
from services.orders.order.service import OrderService
from services.orders.refund.service import RefundService

__all__ = ["register"]


def register(
    worker: Worker,
    service: OrderService,
    cancellation: CancellationService,
    refunds: RefundService,
    fulfilment: FulfilmentService,
) -> None:
    """Makes the handlers known."""
    # The last three were steps of their own once. They are handled as long as a database may hold one of them.
    for kind in (SETTLE, "commit_stock", "send_confirmation", "tell_order_paid"):
        worker.handle(kind, service.settle)
    worker.handle("refund_payment", refunds.refund_payment)
    worker.handle("send_refund", refunds.send)
    worker.handle("send_refund_notice", refunds.send_notice)
    worker.handle("send_shipping_notice", fulfilment.send_notice)
    worker.handle("resend_confirmation", fulfilment.send_again)
    worker.handle("expire_order", cancellation.expire)
    worker.handle("end_order", cancellation.end)
    worker.handle("release_stock", cancellation.release_stock)
    worker.every(300.0, "expired_holds", cancellation.expire_overdue)
