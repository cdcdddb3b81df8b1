"""The jobs that campaigns are addressed by; each is enqueued with the change it tells of."""

from typing import Final

from reliability.jobs import NewJob, Worker
from services.orders.audience.service import AudienceService

__all__ = ["PAID", "register", "tell_refunded"]

PAID: Final = "tell_order_paid"
"""Enqueued by the statement that takes a payment; its key is the order."""
_REFUNDED: Final = "tell_order_refunded"


def tell_refunded(order_id: str, refund: str) -> NewJob:
    """The job that tells of a refund; `refund` names it, and what became of it."""
    return NewJob(_REFUNDED, {"order_id": order_id}, unique_key=refund)


def register(worker: Worker, service: AudienceService) -> None:
    """Makes the handlers known."""
    worker.handle(PAID, service.tell_paid)
    worker.handle(_REFUNDED, service.tell_refunded)
