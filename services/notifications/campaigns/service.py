"""Drafting, starting, stopping and looking at campaigns."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from reliability import audit, idempotency, jobs
from reliability.context import correlation_id
from reliability.errors import FieldError, ValidationFailed
from reliability.ids import is_id, new_id
from reliability.jobs import Job
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.notifications.campaigns import repository
from services.notifications.campaigns.domain import Body, CampaignStatus, Draft, Started, Stats, cut, slot
from services.notifications.campaigns.sending import BATCH_ATTEMPTS, enqueue_batches
from services.notifications.errors import EmptyAudience, NoSuchCampaign, NotSendable
from services.notifications.mail.domain import Rendered
from services.notifications.mail.service import MailService
from services.notifications.mail.templates import Templates, greet
from services.notifications.schemas import AudienceFilter, CampaignChange, CampaignDraft

__all__ = ["FREEZE", "START", "CampaignService"]

A = TypeVar("A")

START: Final = "start_campaign"
FREEZE: Final = "freeze_campaign"
# Contacts looked at in one transaction: a second or two of work, well within the database's deadline.
STRETCH: Final = 20_000

_log = get_logger(__name__)


class CampaignService:
    """The use cases of campaigns."""

    def __init__(
        self,
        database: Database,
        templates: Templates,
        mail: MailService,
        *,
        domain: str,
        batch_size: int,
        lanes: int,
        stretch: int = STRETCH,
    ) -> None:
        self._database = database
        self._templates = templates
        self._mail = mail
        self._domain = domain
        self._batch_size = batch_size
        self._lanes = lanes
        self._stretch = stretch

    async def create(self, draft: CampaignDraft, answer: Callable[[str], A]) -> A:
        """Renders and stores a draft, once per key; its id as the edge answers it.

        Raises `UnknownTemplate`, `ValidationFailed`.
        """
        stored = self._draft(draft)
        async with self._database.transaction("draft campaign") as connection:
            claim = await idempotency.claim(connection, draft.staff_id)
            campaign_id = await repository.insert(connection, stored)
            await audit.record(connection, draft.staff_id, "campaign.drafted", campaign_id, name=draft.name)
            answered = answer(campaign_id)
            await claim.store(connection, 200, answered)
        return answered

    async def update(self, campaign_id: str, change: CampaignChange, staff_id: str) -> None:
        """Changes a draft. Raises `NoSuchCampaign`, `NotSendable`, `UnknownTemplate`, `ValidationFailed`."""
        async with self._database.transaction("change campaign") as connection:
            draft = self._draft(_changed(await _existing(connection, campaign_id), change))
            if not await repository.update(connection, campaign_id, draft):
                raise await _why_not(connection, campaign_id)
            await audit.record(connection, staff_id, "campaign.changed", campaign_id)

    async def delete(self, campaign_id: str, staff_id: str) -> None:
        """Deletes a draft. Raises `NoSuchCampaign`, `NotSendable`."""
        async with self._database.transaction("delete campaign") as connection:
            if not await repository.delete(connection, _known(campaign_id)):
                raise await _why_not(connection, campaign_id)
            await audit.record(connection, staff_id, "campaign.deleted", campaign_id)

    async def get(self, campaign_id: str) -> Any:
        """A campaign's row. Raises `NoSuchCampaign`."""
        async with self._database.connection() as connection:
            return await _existing(connection, campaign_id)

    async def listed(self, before: str | None, limit: int) -> list[Any]:
        """A page of campaigns, newest first."""
        if before is not None and not is_id(before):
            return []
        async with self._database.connection() as connection:
            return await repository.listed(connection, before, limit)

    async def preview(self, campaign_id: str) -> Rendered:
        """The mail as somebody would get it. Raises `NoSuchCampaign`."""
        return _preview(await self.get(campaign_id), "Ada Lovelace")

    async def test(self, campaign_id: str, to: str, staff_id: str) -> str:
        """Sends the mail to one address; nobody is counted. Raises `NoSuchCampaign`."""
        async with self._database.transaction("test campaign") as connection:
            content = _preview(await _existing(connection, campaign_id), "")
            email_id = await self._mail.accept_rendered(connection, f"campaign-test:{new_id()}", to, content)
            await audit.record(connection, staff_id, "campaign.tested", campaign_id)
            assert email_id is not None  # a new id is nobody's key
            return email_id

    async def send(self, campaign_id: str, staff_id: str, at: datetime | None, answer: Callable[[Started], A]) -> A:
        """Starts a draft now, or lets it start later. Its recipients are frozen at the start, or nothing happens.

        What was started comes as the edge answers it: who sends under the same key again is told so again, and
        not that the campaign is no draft any more. Raises `NoSuchCampaign`, `NotSendable`, `EmptyAudience`.
        """
        _known(campaign_id)
        async with self._database.transaction("start campaign") as connection:
            claim = await idempotency.claim(connection, staff_id)
            if at is not None and at > datetime.now(UTC):
                started = await self._schedule(connection, campaign_id, staff_id, at)
            else:
                started = await self._start(connection, campaign_id, staff_id, CampaignStatus.DRAFT)
                if not started.recipients:
                    message = "Nobody who agreed to marketing is left to send it to; the campaign stays a draft."
                    raise EmptyAudience(message)
                await audit.record(connection, staff_id, "campaign.sent", campaign_id, recipients=started.recipients)
            answered = answer(started)
            await claim.store(connection, 200, answered)
        return answered

    async def start_scheduled(self, job: Job, campaign_id: str) -> None:
        """Starts a campaign whose time has come, unless it was cancelled. With nobody to send to it is over at once."""
        async with self._database.transaction("start scheduled campaign") as connection:
            status = await repository.status(connection, campaign_id)
            if status is CampaignStatus.SCHEDULED:
                await self._start(connection, campaign_id, "", CampaignStatus.SCHEDULED)
                await repository.finish(connection, campaign_id)
            await job.complete(connection)

    async def freeze_on(self, job: Job, campaign_id: str) -> None:
        """Freezes the rest of a large audience, a stretch in a transaction; a run that died is gone on with."""
        while True:
            async with self._database.transaction("freeze audience") as connection:
                if await self._freeze(connection, campaign_id):
                    await repository.finish(connection, campaign_id)
                    await job.complete(connection)
                    return
                await repository.leave_unflushed(connection)

    async def pause(self, campaign_id: str, staff_id: str) -> None:
        """Lets no further mail go out. Raises `NoSuchCampaign`, `NotSendable`."""
        await self._move(campaign_id, CampaignStatus.PAUSED, staff_id, "campaign.paused")

    async def resume(self, campaign_id: str, staff_id: str) -> None:
        """Goes on with a paused campaign. Raises `NoSuchCampaign`, `NotSendable`."""
        await self._move(campaign_id, CampaignStatus.SENDING, staff_id, "campaign.resumed")

    async def cancel(self, campaign_id: str, staff_id: str) -> None:
        """Ends a campaign that is not over yet. Raises `NoSuchCampaign`, `NotSendable`."""
        await self._move(campaign_id, CampaignStatus.CANCELLED, staff_id, "campaign.cancelled")

    async def stats(self, campaign_id: str) -> Stats:
        """How far a campaign has come. Raises `NoSuchCampaign`."""
        async with self._database.connection() as connection:
            found = await repository.stats(connection, _known(campaign_id))
        if found is None:
            raise NoSuchCampaign
        return found

    async def undelivered(self, campaign_id: str, *, state: str | None, after: str | None, limit: int) -> list[Any]:
        """A page of recipients that failed or are unknown. Raises `NoSuchCampaign`."""
        async with self._database.connection() as connection:
            await _existing(connection, campaign_id)
            if after is not None and not is_id(after):
                return []
            return await repository.undelivered(connection, campaign_id, state=state, after=after, limit=limit)

    async def _schedule(self, connection: Connection, campaign_id: str, staff_id: str, at: datetime) -> Started:
        if not await repository.schedule(connection, campaign_id, at, staff_id):
            raise await _why_not(connection, campaign_id)
        delay = (at - datetime.now(UTC)).total_seconds()
        await jobs.enqueue(connection, START, {"campaign_id": campaign_id}, unique_key=campaign_id, delay=delay)
        await audit.record(connection, staff_id, "campaign.scheduled", campaign_id, at=at.isoformat())
        return Started(campaign_id, CampaignStatus.SCHEDULED, 0)

    async def _start(self, connection: Connection, campaign_id: str, staff_id: str, status: CampaignStatus) -> Started:
        if not await repository.start(connection, campaign_id, staff_id, correlation_id(), from_status=status):
            raise await _why_not(connection, campaign_id)
        if await self._freeze(connection, campaign_id):
            found = await repository.stats(connection, campaign_id)
            return Started(campaign_id, CampaignStatus.SENDING, found.recipients if found else 0)
        # Each attempt goes on where the last one was killed.
        await jobs.enqueue(
            connection, FREEZE, {"campaign_id": campaign_id}, unique_key=campaign_id, max_attempts=BATCH_ATTEMPTS
        )
        return Started(campaign_id, CampaignStatus.SENDING, await repository.count_audience(connection, campaign_id))

    async def _freeze(self, connection: Connection, campaign_id: str) -> bool:
        """Freezes a stretch; True when it was the last one, and the first batches are queued."""
        chunk = await repository.freeze(connection, campaign_id, self._batch_size, self._domain, self._stretch)
        if chunk is not None and not chunk.last:
            return False
        campaign = await repository.frozen(connection, campaign_id)
        if chunk is not None and campaign is not None:
            await enqueue_batches(connection, campaign_id, range(min(self._lanes, campaign.batches)))
        return True

    async def _move(self, campaign_id: str, to: CampaignStatus, staff_id: str, action: str) -> None:
        async with self._database.transaction(action) as connection:
            if not await repository.move(connection, _known(campaign_id), to):
                raise await _why_not(connection, campaign_id)
            await audit.record(connection, staff_id, action, campaign_id)
        _log.info("campaign_moved", campaign_id=campaign_id, status=to)

    def _draft(self, draft: CampaignDraft) -> Draft:
        if (draft.template is None) == (draft.html is None):
            raise ValidationFailed([FieldError("/template", "give either a template or html")])
        return Draft(
            name=draft.name,
            subject=draft.subject,
            template=draft.template,
            html=draft.html,
            body=self._render(draft),
            audience=draft.audience.model_dump(mode="json"),
            staff_id=draft.staff_id,
        )

    def _render(self, draft: CampaignDraft) -> Body:
        marker = f"slot-{new_id()}"
        rendered = self._templates.campaign(
            draft.subject,
            greeting=slot(marker, "greeting"),
            template=draft.template,
            html=draft.html,
            unsubscribe=slot(marker, "unsubscribe"),
        )
        return Body(cut(rendered.html, marker), cut(rendered.text, marker))


def _changed(row: Any, change: CampaignChange) -> CampaignDraft:
    """The draft as it will be: a new template takes the place of HTML, and the other way round."""
    body = {"template": row["template"], "html": row["html"]}
    if change.template is not None or change.html is not None:
        body = {"template": change.template, "html": change.html}
    return CampaignDraft(
        name=change.name or row["name"],
        subject=change.subject or row["subject"],
        audience=change.audience or AudienceFilter.model_validate(row["audience"]),
        staff_id=row["created_by"],
        **body,
    )


def _preview(row: Any, name: str) -> Rendered:
    words = {"greeting": greet(name), "unsubscribe": "#"}
    html, text = Body(tuple(row["html_pieces"]), tuple(row["text_pieces"])).fill(words)
    return Rendered(row["subject"], html, text)


def _known(campaign_id: str) -> str:
    if not is_id(campaign_id):
        raise NoSuchCampaign
    return campaign_id


async def _existing(connection: Connection, campaign_id: str) -> Any:
    row = await repository.get(connection, _known(campaign_id))
    if row is None:
        raise NoSuchCampaign
    return row


async def _why_not(connection: Connection, campaign_id: str) -> Exception:
    found = await repository.status(connection, campaign_id)
    if found is None:
        return NoSuchCampaign()
    message = f"The campaign is {found}."
    return NotSendable(message)
