"""Keeping the copy of customers current."""

from reliability.logging import get_logger
from reliability.postgres import Database
from services.notifications.contacts import repository
from services.notifications.schemas import CustomerChange, CustomerErasure, OrderPaid, OrderRefund

__all__ = ["ContactService"]

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
        """Forgets a customer. Keys, states and figures stay: nothing is sent again because somebody was forgotten."""
        async with self._database.transaction("erase customer") as connection:
            await repository.erase(connection, erasure)

    async def record_paid(self, paid: OrderPaid) -> None:
        """Remembers who bought what."""
        async with self._database.transaction("record order") as connection:
            await repository.record_paid(connection, paid)

    async def record_refund(self, refund: OrderRefund) -> None:
        """Remembers how much of an order went back."""
        async with self._database.transaction("record refund") as connection:
            await repository.record_refund(connection, refund)
