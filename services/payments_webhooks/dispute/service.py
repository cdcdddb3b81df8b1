"""Disputes, for people. What they are comes by events."""

from reliability.postgres import Database
from services.payments_webhooks.dispute import repository
from services.payments_webhooks.dispute.repository import Dispute
from services.payments_webhooks.errors import no_cursor

__all__ = ["DisputeService"]


class DisputeService:
    """Reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, limit: int, before: str | None) -> list[Dispute]:
        """Disputes, newest first. Raises `ValidationFailed` for a cursor that is none of them."""
        async with self._database.connection() as connection:
            if before is not None and not await repository.exists(connection, before):
                raise no_cursor()
            return await repository.page(connection, limit, before)
