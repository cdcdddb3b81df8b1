"""The job that keeps current what campaigns are addressed by; it is enqueued with the change it tells of."""

from typing import Final

from reliability.jobs import NewJob, Worker
from services.orders.audience.service import AudienceService

__all__ = ["register", "tell_refunded"]

_REFUNDED: Final = "tell_order_refunded"


def tell_refunded(order_id: str, refund: str) -> NewJob:
    """The job that tells of a refund; `refund` names it, and what became of it."""
    return NewJob(_REFUNDED, {"order_id": order_id}, unique_key=refund)


def register(worker: Worker, service: AudienceService) -> None:
    """Makes the handler known."""
    worker.handle(_REFUNDED, service.tell_refunded)
