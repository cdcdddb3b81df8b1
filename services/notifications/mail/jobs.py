"""The job that sends a mail, and what is done about mails on a schedule."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final

from reliability.jobs import Job, Run, Worker
from reliability.postgres import Connection
from services.notifications.mail.repository import SEND_EMAIL
from services.notifications.mail.service import RAISE_INCIDENT, MailService

__all__ = ["SWEEP", "RaiseIncident", "raise_incidents", "register"]

SWEEP: Final = "retry_failed_emails"
SWEEP_EVERY: Final = 300.0
PURGE_EVERY: Final = 3600.0

RaiseIncident = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Hands an incident over: its key, kind, summary, detail and correlation id. It has to take each key once only."""


def register(worker: Worker, service: MailService) -> None:
    """Makes `worker` send mails."""

    async def send_email(job: Job) -> None:
        await service.deliver(job, job.payload["email_id"])

    async def parked(connection: Connection, job: Job, reason: str) -> None:
        await service.give_up(connection, job.payload["email_id"], reason)

    async def sweep(_scheduled_for: datetime) -> Run:
        return await service.sweep()

    async def purge(_scheduled_for: datetime) -> Run:
        return await service.purge()

    worker.handle(SEND_EMAIL, send_email, timeout=30.0, parked=parked)
    worker.observe(service.observe)
    worker.every(SWEEP_EVERY, SWEEP, sweep)
    worker.every(PURGE_EVERY, "purge_emails", purge)


def raise_incidents(worker: Worker, raise_incident: RaiseIncident) -> None:
    """Makes `worker` hand over what needs a person."""

    async def hand_over(job: Job) -> None:
        await raise_incident(job.payload)

    worker.handle(RAISE_INCIDENT, hand_over)
