"""Telling notifications, after the transaction that made it so."""

from reliability.crash_points import crash_point
from reliability.jobs import Job
from reliability.postgres import Database
from services.orders.audience import repository
from services.orders.notifications import Notifications

__all__ = ["AudienceService"]


class AudienceService:
    """Calls may be repeated, and overtake one another: notifications keeps what is later."""

    def __init__(self, database: Database, notifications: Notifications) -> None:
        self._database = database
        self._notifications = notifications

    async def tell_refunded(self, job: Job) -> None:
        """How much of it went back so far. Of an order that was never paid there is nothing to tell."""
        async with self._database.connection() as connection:
            refunded = await repository.refunded(connection, job.payload["order_id"])
        if refunded is not None:
            await self._notifications.record_refunded(refunded)
        crash_point("audience.refund_not_noted")
