"""The job that sends a mail."""

from reliability.jobs import Job, Worker
from reliability.postgres import Connection
from services.notifications.mail.service import SEND_EMAIL, MailService

__all__ = ["register"]


def register(worker: Worker, service: MailService) -> None:
    """Makes `worker` send mails."""

    async def send_email(job: Job) -> None:
        await service.deliver(job, job.payload["email_id"])

    async def parked(connection: Connection, job: Job, reason: str) -> None:
        await service.give_up(connection, job.payload["email_id"], reason)

    worker.handle(SEND_EMAIL, send_email, timeout=30.0, parked=parked)
