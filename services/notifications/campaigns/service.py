"""Drafting, starting and sending campaigns.

A campaign's batches run in a few lanes: batch n, when it is through, enqueues batch n + lanes. So a large
campaign never fills the queue, and a mail that somebody waits for passes between two batches.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from reliability import audit, idempotency, jobs, telemetry
from reliability.cancellation import uninterrupted
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import FieldError, Unavailable, ValidationFailed
from reliability.ids import is_id, new_id
from reliability.jobs import Job, NewJob, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import retry
from services.notifications.campaigns import repository
from services.notifications.campaigns.domain import (
    Batch,
    Body,
    Draft,
    Frozen,
    Recipient,
    Started,
    Stats,
    cut,
    slot,
    state_after,
)
from services.notifications.campaigns.repository import Delivery
from services.notifications.errors import EmptyAudience, NoSuchCampaign, NotSendable
from services.notifications.mail import metrics
from services.notifications.mail.backoff import seconds_until_next
from services.notifications.mail.domain import Category, Outcome, Verdict
from services.notifications.mail.mailer import Mailer
from services.notifications.mail.templates import Templates, greet
from services.notifications.schemas import CampaignDraft

__all__ = ["SEND_BATCH", "CampaignService"]

A = TypeVar("A")

SEND_BATCH: Final = "send_campaign_batch"
# Mails of one batch that are on their way at once: as many become unknown when the process is killed.
WINDOW: Final = 5
_AWAY_SECONDS: Final = 10.0
_INTERRUPTED: Final = "the worker stopped while the mail was on its way"

_log = get_logger(__name__)


class CampaignService:
    """The use cases of campaigns."""

    def __init__(
        self,
        database: Database,
        templates: Templates,
        mailer: Mailer,
        *,
        domain: str,
        retry_seconds: float,
        batch_size: int,
        lanes: int,
    ) -> None:
        self._database = database
        self._templates = templates
        self._mailer = mailer
        self._domain = domain
        self._retry_seconds = retry_seconds
        self._batch_size = batch_size
        self._lanes = lanes

    async def create(self, draft: CampaignDraft, answer: Callable[[str], A]) -> A:
        """Renders and stores a draft, once per key; its id as the edge answers it.

        Raises `UnknownTemplate`, `ValidationFailed`.
        """
        if (draft.template is None) == (draft.html is None):
            raise ValidationFailed([FieldError("/template", "give either a template or html")])
        stored = Draft(
            name=draft.name,
            subject=draft.subject,
            template=draft.template,
            html=draft.html,
            body=self._render(draft),
            audience=draft.audience.model_dump(),
            staff_id=draft.staff_id,
        )
        async with self._database.transaction("draft campaign") as connection:
            claim = await idempotency.claim(connection, draft.staff_id)
            campaign_id = await repository.insert(connection, stored)
            await audit.record(connection, draft.staff_id, "campaign.drafted", campaign_id, name=draft.name)
            answered = answer(campaign_id)
            await claim.store(connection, 200, answered)
        return answered

    async def send(self, campaign_id: str, staff_id: str, answer: Callable[[Started], A]) -> A:
        """Starts a draft: its recipients are frozen and its first batches queued, or nothing happens.

        What was started comes as the edge answers it: who sends under the same key again is told so again, and
        not that the campaign is no draft any more. Raises `NoSuchCampaign`, `NotSendable`, `EmptyAudience`.
        """
        _known(campaign_id)
        async with self._database.transaction("start campaign") as connection:
            claim = await idempotency.claim(connection, staff_id)
            if not await repository.start(connection, campaign_id, staff_id, correlation_id()):
                raise await _why_not(connection, campaign_id)
            recipients, batches = await repository.freeze(connection, campaign_id, self._batch_size, self._domain)
            if not recipients:
                message = "Nobody who agreed to marketing is left to send it to; the campaign stays a draft."
                raise EmptyAudience(message)
            await _enqueue(connection, campaign_id, range(min(self._lanes, batches)))
            await audit.record(connection, staff_id, "campaign.sent", campaign_id, recipients=recipients)
            answered = answer(Started(campaign_id, recipients, batches))
            await claim.store(connection, 200, answered)
        return answered

    async def stats(self, campaign_id: str) -> Stats:
        """How far a campaign has come. Raises `NoSuchCampaign`."""
        _known(campaign_id)
        async with self._database.connection() as connection:
            found = await repository.stats(connection, campaign_id)
        if found is None:
            raise NoSuchCampaign
        return found

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
        """Lets the lane go on after a batch whose job was parked, in the transaction that parks it."""
        campaign = await repository.frozen(connection, batch.campaign_id)
        if campaign is not None:
            await repository.interrupted(connection, batch, _INTERRUPTED)
            await self._continue(connection, batch, campaign)

    def _render(self, draft: CampaignDraft) -> Body:
        marker = f"slot-{new_id()}"
        rendered = self._templates.campaign(
            draft.subject, greeting=slot(marker, "greeting"), template=draft.template, html=draft.html
        )
        return Body(cut(rendered.html, marker), cut(rendered.text, marker))

    async def _begin(self, job: Job, batch: Batch) -> Frozen | None:
        """What to send. A recipient found on its way was left so by a run that died: it is unknown from now on."""
        async with self._database.transaction("begin batch") as connection:
            campaign = await repository.frozen(connection, batch.campaign_id)
            if campaign is None:
                await job.complete(connection)
                return None
            if unknown := await repository.interrupted(connection, batch, _INTERRUPTED):
                _log.warning("sends_interrupted", campaign_id=batch.campaign_id, batch=batch.number, unknown=unknown)
            return campaign

    async def _window(self, batch: Batch, campaign: Frozen) -> bool:
        """Claims a few recipients, sends to them, writes down what became of it; False when none was due."""
        async with self._database.transaction("claim recipients") as connection:
            looked_at, recipients = await repository.claim(connection, batch, WINDOW)
        if not recipients:
            return looked_at > 0
        with telemetry.span("campaign window", messaging_batch_message_count=len(recipients)):
            outcomes = await asyncio.gather(*(self._attempt(campaign, recipient) for recipient in recipients))
        crash_point("campaign.not_noted")
        deliveries = [self._delivery(*pair) for pair in zip(recipients, outcomes, strict=True)]

        async def record() -> None:
            async with self._database.transaction("record deliveries") as connection:
                await repository.record(connection, batch, deliveries)

        # The server has answered and will not say it again: a database that is away for a moment is waited for.
        await retry(record, retryable=lambda error: isinstance(error, Unavailable), attempts=8)
        if any(outcome.verdict is Verdict.UNREACHABLE for outcome in outcomes):
            raise Snooze(_AWAY_SECONDS)
        return True

    async def _attempt(self, campaign: Frozen, recipient: Recipient) -> Outcome:
        outcome = await self._mailer.send(campaign.message(recipient, greet(recipient.name)))
        metrics.attempts.add(1, {"category": Category.MARKETING, "verdict": outcome.verdict})
        return outcome

    def _delivery(self, recipient: Recipient, outcome: Outcome) -> Delivery:
        unreached = outcome.verdict is Verdict.UNREACHABLE
        wait = seconds_until_next(
            outcome, attempts=recipient.attempt - recipient.unreached, age=0.0, first=self._retry_seconds
        )
        return Delivery(recipient, state_after(recipient, outcome), unreached, wait, outcome.detail)

    async def _end(self, job: Job, batch: Batch, campaign: Frozen) -> None:
        """The lane goes on in any case; the batch is done when every recipient is settled."""
        async with self._database.transaction("end batch") as connection:
            await self._continue(connection, batch, campaign)
            wait = await repository.seconds_to_next(connection, batch)
            if wait is None:
                if await repository.finish(connection, batch.campaign_id):
                    _log.info("campaign_finished", campaign_id=batch.campaign_id)
                await job.complete(connection)
        if wait is not None:
            raise Snooze(wait)

    async def _continue(self, connection: Connection, batch: Batch, campaign: Frozen) -> None:
        following = batch.number + self._lanes
        if following < campaign.batches:
            await _enqueue(connection, batch.campaign_id, [following])


def _known(campaign_id: str) -> None:
    if not is_id(campaign_id):
        raise NoSuchCampaign


async def _why_not(connection: Connection, campaign_id: str) -> Exception:
    found = await repository.status(connection, campaign_id)
    if found is None:
        return NoSuchCampaign()
    message = f"The campaign is {found}; only a draft can be sent."
    return NotSendable(message)


async def _enqueue(connection: Connection, campaign_id: str, batches: Iterable[int]) -> None:
    """Queues batches, each once for all time: a batch that runs twice does not queue its follower twice."""
    await jobs.enqueue_many(
        connection,
        [
            NewJob(SEND_BATCH, {"campaign_id": campaign_id, "batch": number}, unique_key=f"{campaign_id}:{number}")
            for number in batches
        ],
    )
