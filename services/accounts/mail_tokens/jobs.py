"""Sending links."""

from datetime import datetime

from reliability.errors import Problem
from reliability.jobs import Job, Run, Worker
from reliability.logging import get_logger
from services.accounts.mail_tokens.service import SEND_LINK, LinkService

__all__ = ["register"]

_log = get_logger(__name__)
_ACCEPTED_BEFORE = "idempotency_key_reused"


def register(worker: Worker, links: LinkService) -> None:
    """Registers the handlers and schedules of this capability."""

    async def send(job: Job) -> None:
        try:
            await links.send(job.payload["token_id"], job.payload["template"])
        except Problem as problem:
            # The mail was taken over under this key with the name the customer had then: it is on its way.
            if problem.code != _ACCEPTED_BEFORE:
                raise
            _log.info("link_sent_before", token=job.payload["token_id"])

    async def prune(_scheduled_for: datetime) -> Run:
        return Run(processed=await links.prune())

    worker.handle(SEND_LINK, send)
    worker.every(3600, "prune_links", prune)
