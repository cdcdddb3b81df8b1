"""Keeping the copy of customers current."""

from reliability.logging import get_logger
from reliability.postgres import Database
from services.notifications.contacts import repository
from services.notifications.schemas import CustomerChange

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
