"""The jobs of an order."""

from typing import Final

from reliability.jobs import Worker
from services.orders.order.cancellation import CancellationService
from services.orders.order.fulfilment import FulfilmentService
from services.orders.order.repository import EXPIRE, SETTLE
from services.orders.order.service import OrderService
from services.orders.refund.service import RefundService

__all__ = ["register"]

# No customer minds that an order ends so much later than they were told, and a hold lives on in the catalog for longer.
_OVERDUE_SECONDS: Final = 15.0


def register(
    worker: Worker,
    service: OrderService,
    cancellation: CancellationService,
    refunds: RefundService,
    fulfilment: FulfilmentService,
) -> None:
    """Makes the handlers known."""
    worker.handle(SETTLE, service.settle)
    # What the version before did in three jobs; a database may still hold some of them.
    worker.handle("commit_stock", service.settle)
    worker.handle("send_confirmation", service.settle)
    worker.handle("tell_order_paid", service.tell_paid)
    worker.handle("refund_payment", refunds.refund_payment)
    worker.handle("send_refund", refunds.send)
    worker.handle("send_refund_notice", refunds.send_notice)
    worker.handle("send_shipping_notice", fulfilment.send_notice)
    worker.handle("resend_confirmation", fulfilment.send_again)
    worker.handle(EXPIRE, cancellation.expire)
    worker.handle("end_order", cancellation.end)
    worker.handle("release_stock", cancellation.release_stock)
    worker.every(_OVERDUE_SECONDS, "expired_holds", cancellation.expire_overdue)
