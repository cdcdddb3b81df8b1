"""Carts that were left: who left one is asked about it once."""

from datetime import datetime

from reliability.jobs import Job, NewJob, Run
from reliability.jobs.queue import enqueue_many
from reliability.postgres import Database
from services.orders.cart import repository
from services.orders.cart.repository import LeftCart
from services.orders.notifications import Notifications

__all__ = ["AbandonedCartService"]

_BATCH = 100


class AbandonedCartService:
    """Decides in one transaction, hands over from jobs; whether the customer wants such mail, notifications knows."""

    def __init__(self, database: Database, notifications: Notifications, public_url: str) -> None:
        self._database = database
        self._notifications = notifications
        self._public_url = public_url

    async def remind(self, _scheduled_for: datetime | None = None) -> Run:
        """Marks carts nobody touched for hours and queues their mails, once per cart; two at once are harmless."""
        processed = 0
        while True:
            async with self._database.transaction("remind of carts") as connection:
                left = await repository.take_left(connection, _BATCH)
                await enqueue_many(connection, [self._job(cart) for cart in left])
            processed += len(left)
            if len(left) < _BATCH:
                return Run(processed)

    def _job(self, cart: LeftCart) -> NewJob:
        # With what it says: a cart that changes between two attempts must not make two different mails of one key.
        data = {
            "customer_name": cart.name,
            "items": cart.items,
            "subtotal": {"amount": cart.subtotal, "currency": cart.currency},
            "link": f"{self._public_url}/cart",
        }
        return NewJob("abandoned_cart", {"cart_id": cart.id, "email": cart.email, "data": data}, unique_key=cart.id)

    async def send(self, job: Job) -> None:
        """Asks, unless the cart was ordered, merged or emptied since."""
        cart_id = job.payload["cart_id"]
        async with self._database.connection() as connection:
            left = await repository.is_left(connection, cart_id)
        if left:
            await self._notifications.send(
                f"abandoned-cart:{cart_id}", job.payload["email"], "abandoned_cart", job.payload["data"]
            )
        async with self._database.transaction("cart reminded of") as connection:
            await job.complete(connection)
