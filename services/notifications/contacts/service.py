"""Keeping the copy of customers current."""

from typing import Final

from reliability import jobs
from reliability.jobs import Job, Snooze
from reliability.logging import get_logger
from reliability.postgres import Database
from services.notifications.contacts import repository
from services.notifications.schemas import CustomerChange, CustomerErasure, OrderPaid, OrderRefund

__all__ = ["FORGET", "ContactService"]

FORGET: Final = "forget_customer"
_LOOK_AGAIN_SECONDS: Final = 900.0

_log = get_logger(__name__)


class ContactService:
    """The use cases of contacts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_change(self, change: CustomerChange) -> None:
        """Takes over what accounts says of a customer, unless something newer is known."""
        async with self._database.transaction("record customer") as connection:
            if not await repository.record(connection, change):
                _log.info("customer_change_outdated", customer_id=str(change.customer_id))

    async def erase(self, erasure: CustomerErasure) -> None:
        """Forgets a customer. Keys, states and figures stay: nothing is sent again because somebody was forgotten.

        Mail that is on its way is forgotten when it has arrived. A death between any two of these is asked again.
        """
        async with self._database.transaction("bury customer") as connection:
            await repository.bury(connection, erasure)
        async with self._database.transaction("await writers") as connection:
            await repository.await_writers(connection)
        async with self._database.transaction("erase customer") as connection:
            await repository.erase(connection, erasure)
            if await repository.on_its_way(connection, erasure):
                # Without a key, so that the address is gone from the queue as well a day after it is done.
                await jobs.enqueue(connection, FORGET, erasure.model_dump(mode="json"), delay=_LOOK_AGAIN_SECONDS)

    async def forget(self, job: Job, erasure: CustomerErasure) -> None:
        """What is left of somebody who was erased. Raises `Snooze` while mail to them is on its way."""
        async with self._database.transaction("forget customer") as connection:
            await repository.erase_arrived(connection, erasure)
            on_its_way = await repository.on_its_way(connection, erasure)
            if not on_its_way:
                await job.complete(connection)
        if on_its_way:
            raise Snooze(_LOOK_AGAIN_SECONDS)

    async def record_paid(self, paid: OrderPaid) -> None:
        """Remembers who bought what."""
        async with self._database.connection() as connection:
            await repository.record_paid(connection, paid)

    async def record_refund(self, refund: OrderRefund) -> None:
        """Remembers how much of an order went back."""
        async with self._database.connection() as connection:
            await repository.record_refund(connection, refund)
