"""The job that handles what the mail provider reports."""

import orjson

from reliability import inbox
from reliability.jobs import Job, Park, Worker
from reliability.postgres import Connection, Database
from services.notifications.consent.service import MAIL_EVENT, ConsentService

__all__ = ["register"]


def register(worker: Worker, service: ConsentService, database: Database) -> None:
    """Makes `worker` handle mail events."""

    async def handle(job: Job) -> None:
        async with database.connection() as connection:
            row = await inbox.stored(connection, job.payload["inbox_id"])
        event = orjson.loads(row["body"])
        if not isinstance(event, dict):
            message = "an event that is no object"
            raise Park(message)
        await service.handle(job, event, job.payload["inbox_id"])

    async def parked(connection: Connection, job: Job, _reason: str) -> None:
        await inbox.park(connection, job.payload["inbox_id"])

    worker.handle(MAIL_EVENT, handle, parked=parked)
