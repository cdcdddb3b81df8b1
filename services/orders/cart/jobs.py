"""The jobs of carts."""

from reliability.jobs import Worker
from services.orders.cart.abandoned import AbandonedCartService

__all__ = ["register"]


def register(worker: Worker, service: AbandonedCartService) -> None:
    """Makes the handler and the schedule known."""
    worker.handle("abandoned_cart", service.send)
    worker.every(900.0, "abandoned_carts", service.remind)
