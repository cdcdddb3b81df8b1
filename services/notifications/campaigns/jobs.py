"""The job that sends a batch of a campaign."""

from reliability.jobs import Job, Worker
from reliability.postgres import Connection
from services.notifications.campaigns.domain import Batch
from services.notifications.campaigns.service import SEND_BATCH, CampaignService

__all__ = ["register"]

_SECONDS = 300.0


def register(worker: Worker, service: CampaignService) -> None:
    """Makes `worker` send campaigns."""

    async def send_batch(job: Job) -> None:
        await service.send_batch(job, _batch(job))

    async def parked(connection: Connection, job: Job, _reason: str) -> None:
        await service.skip(connection, _batch(job))

    worker.handle(SEND_BATCH, send_batch, timeout=_SECONDS, parked=parked)


def _batch(job: Job) -> Batch:
    return Batch(job.payload["campaign_id"], job.payload["batch"])
