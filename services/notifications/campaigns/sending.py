"""Sending a started campaign.

Its batches run in a few lanes: batch n, when it is through, enqueues batch n + lanes. So a large campaign never fills
the queue, and a mail that somebody waits for passes between two batches.

Over SMTP a batch goes out a few mails at a time, and who was on the way when a worker died is unknown. A provider that
recognises a request gets the whole batch as one shipment, whose bytes are stored first: the same bytes go out again
until the provider has answered.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from reliability import jobs, telemetry
from reliability.cancellation import uninterrupted
from reliability.crash_points import crash_point
from reliability.errors import Unavailable
from reliability.jobs import Job, NewJob, Run, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import retry
from services.notifications.campaigns import repository
from services.notifications.campaigns.domain import (
    Batch,
    CampaignStatus,
    Frozen,
    Recipient,
    RecipientState,
    Shipment,
    state_after,
)
from services.notifications.campaigns.pace import Pace
from services.notifications.campaigns.repository import Delivery
from services.notifications.consent.tokens import Links
from services.notifications.mail import metrics
from services.notifications.mail.backoff import seconds_until_next
from services.notifications.mail.domain import Category, Message, Outcome, Topic, Verdict
from services.notifications.mail.mailer import Batches, Mailer
from services.notifications.mail.templates import greet

__all__ = ["BATCH_ATTEMPTS", "SEND_BATCH", "WINDOW", "CampaignSender", "enqueue_batches"]

SEND_BATCH: Final = "send_campaign_batch"
# Mails of one batch that are on their way at once over SMTP: as many become unknown when the process is killed.
WINDOW: Final = 5
# Every claim counts, also one whose worker is killed, and a batch that is not sent keeps its campaign from ending.
# After so many it is a dead letter; after a few its lane goes on without it.
BATCH_ATTEMPTS: Final = 100
_HOLDS_UP: Final = 10
_AWAY_SECONDS: Final = 10.0
_PAUSED_SECONDS: Final = 1.0
_SHIPMENT_DAYS: Final = 7
_INTERRUPTED: Final = "the worker stopped while the mail was on its way"
_CERTAIN: Final = frozenset({Verdict.ACCEPTED, Verdict.REFUSED})

_log = get_logger(__name__)


class CampaignSender:
    """Runs a campaign's batches."""

    def __init__(
        self, database: Database, mailer: Mailer, links: Links, pace: Pace, *, retry_seconds: float, lanes: int
    ) -> None:
        self._database = database
        self._mailer = mailer
        self._links = links
        self._pace = pace
        self._retry_seconds = retry_seconds
        self._lanes = lanes

    async def send_batch(self, job: Job, batch: Batch) -> None:
        """Sends what a batch has to send now. Raises `Snooze` when some of it has to wait."""
        campaign = await self._begin(job, batch)
        if campaign is None:
            return
        # A drain stops between two windows, so that no mail that went out is left unaccounted for.
        while await uninterrupted(self._window(batch, campaign)):
            pass
        await self._end(job, batch, campaign)

    async def skip(self, connection: Connection, batch: Batch) -> None:
        """Lets the lane go on after a batch whose job was parked, in the transaction that parks it.

        Recipients that the provider would recognise stay as they are: a redrive sends the same bytes.
        """
        campaign = await repository.frozen(connection, batch.campaign_id)
        if campaign is not None:
            if not await self._recognisable(connection, batch, campaign):
                await repository.interrupted(connection, batch, _INTERRUPTED)
            await self._continue(connection, batch, campaign)

    async def purge(self) -> Run:
        """Deletes the bytes of shipments that were settled a week ago."""
        processed = 0
        while True:
            async with self._database.transaction("purge shipments") as connection:
                done = await repository.purge_shipments(connection, days=_SHIPMENT_DAYS)
            processed += done
            if not done:
                return Run(processed)

    async def _begin(self, job: Job, batch: Batch) -> Frozen | None:
        """What to send, if it may be sent now. Recipients found on their way were left so by a run that died."""
        async with self._database.transaction("begin batch") as connection:
            campaign = await repository.frozen(connection, batch.campaign_id)
            if campaign is None or not await self._recognisable(connection, batch, campaign):
                unknown = await repository.interrupted(connection, batch, _INTERRUPTED)
                if unknown:
                    _log.warning(
                        "sends_interrupted", campaign_id=batch.campaign_id, batch=batch.number, unknown=unknown
                    )
            if campaign is None or campaign.status is CampaignStatus.CANCELLED:
                await job.complete(connection)
                return None
            if job.attempt > _HOLDS_UP:
                await self._continue(connection, batch, campaign)
        if campaign.status is CampaignStatus.PAUSED:
            raise Snooze(_PAUSED_SECONDS)
        return campaign

    async def _recognisable(self, connection: Connection, batch: Batch, campaign: Frozen) -> bool:
        """Whether a shipment left open will be sent again; one that will not be is settled here."""
        open_ = await repository.open_shipment(connection, batch)
        if open_ is None:
            return False
        over = campaign.status is CampaignStatus.CANCELLED
        if self._mailer.batches is not None and open_.age < self._mailer.remembers and not over:
            return True
        await repository.settle_shipment(connection, open_.id)
        return False

    async def _window(self, batch: Batch, campaign: Frozen) -> bool:
        """Sends to some recipients and writes down what became of it; False when none was due."""
        batches = self._mailer.batches
        if wait := await self._pace.seconds_for(batches.size if batches else WINDOW):
            raise Snooze(wait)
        return await (self._ship(batch, campaign, batches) if batches else self._send_few(batch, campaign))

    async def _send_few(self, batch: Batch, campaign: Frozen) -> bool:
        async with self._database.transaction("claim recipients") as connection:
            looked_at, recipients = await repository.claim(connection, batch, WINDOW)
        if not recipients:
            return looked_at > 0
        with telemetry.span("campaign window", messaging_batch_message_count=len(recipients)):
            outcomes = await asyncio.gather(
                *(self._mailer.send(self._message(campaign, recipient)) for recipient in recipients)
            )
        await self._note(batch, recipients, outcomes)
        if any(outcome.verdict is Verdict.UNREACHABLE for outcome in outcomes):
            raise Snooze(_AWAY_SECONDS)
        return True

    async def _ship(self, batch: Batch, campaign: Frozen, batches: Batches) -> bool:
        async with self._database.transaction("claim shipment") as connection:
            shipment = await repository.open_shipment(connection, batch)
            if shipment is None:
                looked_at, recipients = await repository.claim(connection, batch, batches.size)
                if not recipients:
                    return looked_at > 0
                packed = batches.pack([self._message(campaign, recipient) for recipient in recipients])
                shipment = await repository.store_shipment(connection, batch, recipients, packed)
        crash_point("campaign.not_shipped")
        with telemetry.span("campaign shipment", messaging_batch_message_count=len(shipment.recipients)):
            outcomes = await batches.ship(shipment.id, shipment.packed)
        if not _settles(shipment, outcomes):
            # The provider may have accepted it, now or before: the same bytes again, and nobody else meanwhile.
            metrics.attempts.add(len(outcomes), {"category": Category.MARKETING, "verdict": Verdict.UNKNOWN})
            raise Snooze(seconds_until_next(outcomes[0], attempts=1, age=shipment.age, first=self._retry_seconds))
        await self._note(batch, shipment.recipients, outcomes, shipment.id)
        if outcomes[0].verdict is Verdict.UNREACHABLE:
            raise Snooze(outcomes[0].retry_after or _AWAY_SECONDS)
        return True

    async def _note(
        self, batch: Batch, recipients: Sequence[Recipient], outcomes: Sequence[Outcome], shipment_id: str = ""
    ) -> None:
        crash_point("campaign.not_noted")
        for outcome in outcomes:
            metrics.attempts.add(1, {"category": Category.MARKETING, "verdict": outcome.verdict})
        deliveries = [self._delivery(*pair) for pair in zip(recipients, outcomes, strict=True)]

        async def record() -> None:
            async with self._database.transaction("record deliveries") as connection:
                await repository.record(connection, batch, deliveries)
                if shipment_id:
                    await repository.settle_shipment(connection, shipment_id)

        # The server has answered and will not say it again: a database that is away for a moment is waited for.
        await retry(record, retryable=lambda error: isinstance(error, Unavailable), attempts=8)

    def _message(self, campaign: Frozen, recipient: Recipient) -> Message:
        unsubscribe = self._links.decline(recipient.email, Topic.NEWS)
        return campaign.message(recipient, greet(recipient.name), unsubscribe)

    def _delivery(self, recipient: Recipient, outcome: Outcome) -> Delivery:
        unreached = outcome.verdict is Verdict.UNREACHABLE
        attempts = recipient.attempt - recipient.unreached
        wait = seconds_until_next(outcome, attempts=attempts, age=0.0, first=self._retry_seconds)
        state = state_after(recipient, outcome)
        if state is not RecipientState.QUEUED:
            metrics.settled_recipient(state, retried=recipient.attempt > 1)
        return Delivery(recipient, state, unreached, wait, outcome.detail, outcome.provider_id)

    async def _end(self, job: Job, batch: Batch, campaign: Frozen) -> None:
        """The lane goes on in any case; the batch is done when every recipient is settled, or none will be."""
        async with self._database.transaction("end batch") as connection:
            status = await repository.status(connection, batch.campaign_id)
            over = status is CampaignStatus.CANCELLED
            if not over:
                await self._continue(connection, batch, campaign)
            wait = None if over else await repository.seconds_to_next(connection, batch)
            if wait is None:
                if await repository.finish(connection, batch.campaign_id):
                    _log.info("campaign_finished", campaign_id=batch.campaign_id)
                await job.complete(connection)
        if wait is not None:
            raise Snooze(max(wait, _PAUSED_SECONDS) if status is CampaignStatus.PAUSED else wait)

    async def _continue(self, connection: Connection, batch: Batch, campaign: Frozen) -> None:
        following = batch.number + self._lanes
        if following < campaign.batches:
            await enqueue_batches(connection, batch.campaign_id, [following])


def _settles(shipment: Shipment, outcomes: Sequence[Outcome]) -> bool:
    """Whether the answer says what became of a shipment.

    Of one that went out before only a yes or a no to each mail does: that it cannot be reached now says nothing of
    what it accepted then.
    """
    verdicts = {outcome.verdict for outcome in outcomes}
    return verdicts <= _CERTAIN or (shipment.fresh and Verdict.UNKNOWN not in verdicts)


async def enqueue_batches(connection: Connection, campaign_id: str, batches: Iterable[int]) -> None:
    """Queues batches, each once for all time: a batch that runs twice does not queue its follower twice."""
    await jobs.enqueue_many(
        connection,
        [
            NewJob(
                SEND_BATCH,
                {"campaign_id": campaign_id, "batch": number},
                unique_key=f"{campaign_id}:{number}",
                max_attempts=BATCH_ATTEMPTS,
            )
            for number in batches
        ],
    )
