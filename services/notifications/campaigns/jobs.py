"""The jobs that start, freeze and send campaigns."""

from datetime import datetime
from typing import Final

from reliability.jobs import Job, Run, Worker
from reliability.postgres import Connection
from services.notifications.campaigns.domain import Batch
from services.notifications.campaigns.sending import SEND_BATCH, CampaignSender
from services.notifications.campaigns.service import FREEZE, START, CampaignService

__all__ = ["register"]

_SECONDS: Final = 300.0
_PURGE_EVERY: Final = 3600.0


def register(worker: Worker, service: CampaignService, sender: CampaignSender) -> None:
    """Makes `worker` send campaigns."""

    async def start(job: Job) -> None:
        await service.start_scheduled(job, job.payload["campaign_id"])

    async def freeze(job: Job) -> None:
        await service.freeze_on(job, job.payload["campaign_id"])

    async def send_batch(job: Job) -> None:
        await sender.send_batch(job, _batch(job))

    async def parked(connection: Connection, job: Job, _reason: str) -> None:
        await sender.skip(connection, _batch(job))

    async def purge(_scheduled_for: datetime) -> Run:
        return await sender.purge()

    worker.handle(START, start)
    worker.handle(FREEZE, freeze, timeout=_SECONDS)
    worker.handle(SEND_BATCH, send_batch, timeout=_SECONDS, parked=parked)
    worker.every(_PURGE_EVERY, "purge_shipments", purge)


def _batch(job: Job) -> Batch:
    return Batch(job.payload["campaign_id"], job.payload["batch"])
