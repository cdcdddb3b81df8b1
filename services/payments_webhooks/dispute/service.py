"""Disputes, for people. What they are comes by events."""

from reliability.postgres import Database
from services.payments_webhooks.dispute import repository
from services.payments_webhooks.dispute.repository import Dispute

__all__ = ["DisputeService"]


class DisputeService:
    """Reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, limit: int, before: str | None) -> list[Dispute]:
        """Disputes, newest first."""
        async with self._database.connection() as connection:
            return await repository.page(connection, limit, before)
