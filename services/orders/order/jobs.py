"""The jobs of an order."""

from reliability.jobs import Worker
from services.orders.order.service import OrderService

__all__ = ["register"]


def register(worker: Worker, service: OrderService) -> None:
    """Makes the handlers known."""
    worker.handle("commit_stock", service.commit_stock)
    worker.handle("send_confirmation", service.send_confirmation)
    worker.handle("refund_payment", service.refund_payment)
    worker.handle("send_refund_notice", service.send_refund_notice)
    worker.handle("expire_order", service.expire)
    worker.handle("release_stock", service.release_stock)
