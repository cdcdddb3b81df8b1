"""What all services do at once."""

from datetime import datetime

from reliability.jobs import Run, Worker
from reliability.retention import EVERY_SECONDS, PURGE
from services.admin.operations.service import OperationsService

__all__ = ["register"]


def register(worker: Worker, operations: OperationsService) -> None:
    """Makes the schedule known."""

    async def purge(_scheduled_for: datetime) -> Run:
        return await operations.purge()

    worker.every(EVERY_SECONDS, PURGE, purge)
