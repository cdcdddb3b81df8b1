"""Accepting a mail, and sending it: two transactions with the mail server between them."""

from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import SpanKind

from reliability import audit, jobs, telemetry
from reliability.cancellation import uninterrupted
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import IdempotencyKeyReused, Unavailable
from reliability.fingerprint import fingerprint
from reliability.ids import is_id, new_id
from reliability.jobs import Job, NewJob, Run, Snooze, Worker
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import retry
from services.notifications.consent.tokens import Links
from services.notifications.contacts import repository as contacts
from services.notifications.errors import NoSuchEmail, NothingToRetry
from services.notifications.mail import metrics, repository
from services.notifications.mail.backoff import seconds_until_next
from services.notifications.mail.domain import (
    Attempt,
    Category,
    EmailState,
    Outcome,
    Rendered,
    Topic,
    may_resume,
    state_after,
)
from services.notifications.mail.mailer import Mailer
from services.notifications.mail.repository import SEND_EMAIL, StoredEmail
from services.notifications.mail.templates import Template, Templates
from services.notifications.schemas import MailRequest, OrderPaid

__all__ = ["RAISE_INCIDENT", "MailService", "Summary"]

RAISE_INCIDENT: Final = "raise_incident"
# Admin may be away for a day and a half.
_INCIDENT_ATTEMPTS: Final = 1000
OVERDUE_SECONDS: Final = 300.0
_SWEEP: Final = 1000
# A link in a mail works for a month at most; what it said is of no use to anybody after that.
_WORDS_DAYS: Final = 30
_KEY_DAYS: Final = 400
_CONFIRMATION: Final = "order_confirmation"
_INTERRUPTED: Final = "the worker stopped while the mail was on its way"
_WITHDRAWN: Final = "no consent to marketing, or the address is suppressed"
_BOUNCES: Final = "an earlier mail to this address bounced"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures for the dashboard."""

    failed_emails: int
    dead_letters: int


class MailService:
    """The use cases of single mails. `staff` is who hears of mail that matters and failed for good."""

    def __init__(
        self,
        database: Database,
        templates: Templates,
        mailer: Mailer,
        *,
        domain: str,
        staff: str,
        retry_seconds: float,
        links: Links,
        worker: Worker,
    ) -> None:
        self._database = database
        self._worker = worker
        self._templates = templates
        self._mailer = mailer
        self._domain = domain
        self._staff = staff
        self._retry_seconds = retry_seconds
        self._links = links

    async def send_email(self, request: MailRequest) -> str:
        """Accepts a mail for delivery and answers its id; the same key again answers the same id.

        It is rendered before it is stored, so that what cannot be written is the caller's error and never a job
        that fails for ever. Raises `UnknownTemplate`, `ValidationFailed`, `IdempotencyKeyReused`.
        """
        new = self._new(self._templates.find(request.template), request)
        async with self._database.connection() as connection:
            with self._worker.offer(repository.SEND_EMAIL) as offer:
                email_id = await repository.accept(connection, new, offer)
            return email_id or await _accepted_before(connection, new)

    async def confirm_order(self, paid: OrderPaid, data: dict[str, Any]) -> str:
        """Remembers who bought what and accepts the confirmation of it, in one statement; the mail's id.

        The order again changes nothing, whatever it says by then. Raises `ValidationFailed`.
        """
        key = f"order-confirmation:{paid.order_id}"
        # Nothing in it needs another check, which the address would cost a tenth of a millisecond.
        request = MailRequest.model_construct(idempotency_key=key, to=paid.email, template=_CONFIRMATION, data=data)
        new = self._new(self._templates.find(_CONFIRMATION), request)
        async with self._database.connection() as connection:
            with self._worker.offer(repository.SEND_EMAIL) as offer:
                email_id = await repository.confirm(connection, new, paid, offer)
            return email_id or (await repository.find_by_key(connection, key))[0]

    async def accept_once(self, connection: Connection, request: MailRequest) -> None:
        """Accepts a mail in the caller's transaction; one with a key that is taken was accepted before."""
        await repository.accept(connection, self._new(self._templates.find(request.template), request))

    async def accept_rendered(self, connection: Connection, key: str, to: str, content: Rendered) -> str | None:
        """Accepts a mail somebody else wrote, a campaign's test say; None when the key is taken."""
        new = repository.NewEmail(
            idempotency_key=key,
            fingerprint=fingerprint("test", {"to": to}),
            category=Category.TRANSACTIONAL,
            to=to,
            template="campaign",
            data={},
            content=content,
            message_id=f"<{new_id()}@{self._domain}>",
            correlation_id=correlation_id(),
        )
        return await repository.accept(connection, new)

    async def bounced(self, connection: Connection, provider_id: str, reason: str) -> bool:
        """Takes "sent" back from a mail that came back; False when no mail of ours is called that (yet)."""
        email_id = await repository.bounced(connection, provider_id, reason)
        stored = await repository.lock(connection, email_id) if email_id else None
        if stored is not None:
            await self._settled(connection, stored, EmailState.FAILED, stored.attempts, reason)
        return await repository.known(connection, provider_id)

    async def deliver(self, job: Job, email_id: str) -> None:
        """Sends one mail and writes down what became of it. Raises `Snooze` when it goes out again later."""
        await uninterrupted(self._deliver(job, email_id))

    async def give_up(self, connection: Connection, email_id: str, reason: str) -> None:
        """Ends a mail whose job is out of attempts, in the transaction that parks the job."""
        stored = await repository.lock(connection, email_id)
        if stored is None or stored.state.final:
            return
        unseen = stored.state is EmailState.SENDING or stored.ambiguous > 0
        await self._close(connection, stored, EmailState.UNKNOWN if unseen else EmailState.FAILED, reason)

    async def sweep(self) -> Run:
        """Gives every mail that is long overdue another job: its own was lost, or parked. Each counts as one."""
        async with self._database.transaction("sweep mails") as connection:
            overdue = await repository.overdue(connection, OVERDUE_SECONDS, _SWEEP)
            # One more job per attempt, however often the sweep comes by; the order key keeps it behind a living one.
            given = await jobs.enqueue_many(
                connection,
                [_job(email_id, unique_key=f"sweep:{email_id}:{attempts}") for email_id, attempts in overdue],
            )
        if given:
            _log.warning("mails_swept", overdue=len(overdue), given=len(given))
        return Run(processed=len(given))

    async def observe(self) -> None:
        """Measures how long the oldest mail that has not gone out waits."""
        async with self._database.connection() as connection:
            metrics.queue_age.set(await repository.queue_age(connection))

    async def purge(self) -> Run:
        """Blanks the words of mails that were settled a month ago, and deletes those that are over a year old."""
        processed = 0
        while True:
            async with self._database.transaction("purge mails") as connection:
                done = await self.forget(connection)
            processed += done
            if not done:
                return Run(processed)

    async def forget(self, connection: Connection) -> int:
        """A batch of that in the caller's transaction; how many mails it was about."""
        forgotten = await repository.forget(connection, days=_WORDS_DAYS)
        return forgotten + await repository.purge(connection, days=_KEY_DAYS)

    async def retry(self, email_id: str, staff_id: str) -> None:
        """Sends a failed or unknown mail again because staff say so. Raises `NoSuchEmail`, `NothingToRetry`."""
        async with self._database.transaction("retry mail") as connection:
            await _must(connection, email_id, await repository.again(connection, _known(email_id)))
            await jobs.enqueue_many(connection, [_job(email_id)])
            await audit.record(connection, staff_id, "email.retried", email_id)

    async def discard(self, email_id: str, staff_id: str) -> None:
        """Takes a failed mail off the list of what somebody has to look at. Raises as `retry`."""
        async with self._database.transaction("discard mail") as connection:
            await _must(connection, email_id, await repository.discard(connection, _known(email_id)))
            await audit.record(connection, staff_id, "email.discarded", email_id)

    async def listed(self, *, state: str | None, before: str | None, to: str | None, limit: int) -> list[Any]:
        """A page of mails without their words, newest first."""
        if before is not None and not is_id(before):
            return []
        async with self._database.connection() as connection:
            return await repository.listed(connection, state=state, before=before, to=to, limit=limit)

    async def summary(self) -> Summary:
        """Mail that failed for good, and jobs that ran out of attempts."""
        async with self._database.connection() as connection:
            return Summary(await repository.count_failed(connection), await jobs.count_dead_letters(connection))

    def _new(self, template: Template, request: MailRequest) -> repository.NewEmail:
        unsubscribe = self._links.decline(request.to, template.topic) if template.topic else ""
        data, content = self._templates.render(
            template, request.data, unsubscribe=unsubscribe, attached=bool(request.calendar_ics)
        )
        asked = {"to", "template", "data", *({"calendar_ics"} if request.calendar_ics else ())}
        return repository.NewEmail(
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint("send_email", request.model_dump(include=asked)),
            category=template.category,
            to=request.to,
            template=template.name,
            data=data.model_dump(mode="json"),
            content=content,
            message_id=f"<{new_id()}@{self._domain}>",
            correlation_id=correlation_id(),
            calendar=request.calendar_ics,
            topic=template.topic,
            unsubscribe=unsubscribe,
        )

    async def _deliver(self, job: Job, email_id: str) -> None:
        attempt = await self._fresh(email_id) or await self._begun(job, email_id)
        if attempt is None:
            return
        crash_point("mail.not_sent")
        with telemetry.span("mail send", SpanKind.CLIENT, messaging_message_id=attempt.message.message_id):
            outcome = await self._mailer.send(attempt.message)
        crash_point("mail.not_noted")
        metrics.attempts.add(1, {"category": attempt.category, "verdict": outcome.verdict})
        wait = seconds_until_next(outcome, attempts=attempt.counted, age=attempt.age, first=self._retry_seconds)

        async def record() -> EmailState:
            return await self._record(job, attempt, outcome, wait)

        # The server has answered and will not say it again: a database that is away for a moment is waited for.
        state = await retry(record, retryable=lambda error: isinstance(error, Unavailable), attempts=8)
        _log.info("mail_attempted", email_id=email_id, attempt=attempt.number, verdict=outcome.verdict, state=state)
        if state is EmailState.RETRYING:
            raise Snooze(wait)

    async def _fresh(self, email_id: str) -> Attempt | None:
        """The attempt at a mail that needs no second look, in one statement."""
        async with self._database.connection() as connection:
            stored = await repository.begin_fresh(connection, email_id)
        if stored is None:
            return None
        return stored.attempt(stored.ambiguous, remembered=stored.age < self._mailer.remembers)

    async def _begun(self, job: Job, email_id: str) -> Attempt | None:
        async with self._database.transaction("begin attempt") as connection:
            attempt = await self._begin(connection, email_id)
            if attempt is None:
                await job.complete(connection)
            return attempt

    async def _begin(self, connection: Connection, email_id: str) -> Attempt | None:
        """The attempt to make, written down as begun; None when there is none to make."""
        stored = await repository.lock(connection, email_id)
        if stored is None or stored.state.final:
            return None
        ambiguous, remembered = stored.ambiguous, stored.age < self._mailer.remembers
        if stored.state is EmailState.SENDING:
            # An attempt began and nobody wrote down its end: the server may have accepted it.
            if not may_resume(stored.category, ambiguous, remembered=remembered):
                await self._close(connection, stored, EmailState.UNKNOWN, _INTERRUPTED)
                return None
            ambiguous += 1
        if reason := await _unwanted(connection, stored):
            await self._close(connection, stored, EmailState.SUPPRESSED, reason)
            return None
        attempt = stored.attempt(ambiguous, remembered=remembered)
        await repository.begin(connection, attempt)
        return attempt

    async def _record(self, job: Job, attempt: Attempt, outcome: Outcome, wait: float) -> EmailState:
        state = state_after(attempt, outcome)
        if state is EmailState.SENT:
            async with self._database.connection() as connection:
                if await repository.sent(connection, attempt, outcome, job):
                    metrics.settled(attempt.category, state, retried=attempt.number > 1, age=attempt.age)
            return state
        async with self._database.transaction("record attempt") as connection:
            stored = await repository.lock(connection, attempt.email_id)
            if await repository.record(connection, attempt, outcome, state, wait=wait) and stored is not None:
                await self._settled(connection, stored, state, attempt.number, outcome.detail)
            if state is not EmailState.RETRYING:
                await job.complete(connection)
        return state

    async def _close(self, connection: Connection, stored: StoredEmail, state: EmailState, reason: str) -> None:
        await repository.close(connection, stored.id, state, reason)
        await self._settled(connection, stored, state, stored.attempts, reason)

    async def _settled(
        self, connection: Connection, stored: StoredEmail, state: EmailState, attempts: int, reason: str
    ) -> None:
        """Counts a mail whose fate is sealed; staff are told, once, when one that matters did not arrive."""
        if not state.final:
            return
        metrics.settled(stored.category, state, retried=attempts > 1, age=stored.age)
        if state is EmailState.SENT or not self._templates.is_critical(stored.template):
            return
        _log.error("critical_mail_failed", email_id=stored.id, template=stored.template, state=state, attempts=attempts)
        metrics.critical.add(1, {"template": stored.template})
        told = MailRequest(
            idempotency_key=f"mail-failed:{stored.id}",
            to=self._staff,
            template="mail_failed",
            data={
                "template": stored.template,
                "recipient": stored.message.to,
                "state": state,
                "attempts": attempts,
                "error": reason or "no reason was given",
                "email_id": stored.id,
                "flow": stored.message.correlation_id,
            },
        )
        await repository.accept(connection, self._new(self._templates.find("mail_failed"), told))
        await jobs.enqueue(
            connection,
            RAISE_INCIDENT,
            {
                "key": f"mail:{stored.id}",
                "kind": "critical_mail_failed",
                "summary": f"The mail {stored.template} has not been delivered: it is {state}.",
                "detail": {"email_id": stored.id, "template": stored.template, "state": state, "error": reason},
                "correlation_id": stored.message.correlation_id,
            },
            unique_key=f"mail:{stored.id}",
            max_attempts=_INCIDENT_ATTEMPTS,
        )


def _job(email_id: str, unique_key: str | None = None) -> NewJob:
    """Two jobs of one mail never run at once: the second would take the first's attempt for an interrupted one."""
    return NewJob(SEND_EMAIL, {"email_id": email_id}, unique_key=unique_key, order_key=f"mail:{email_id}")


def _known(email_id: str) -> str:
    if not is_id(email_id):
        raise NoSuchEmail
    return email_id


async def _must(connection: Connection, email_id: str, done: bool) -> None:
    if done:
        return
    if await repository.lock(connection, email_id) is None:
        raise NoSuchEmail
    raise NothingToRetry


async def _unwanted(connection: Connection, stored: StoredEmail) -> str:
    """Why a mail must not go out, looked at before every attempt; empty when it may."""
    address = stored.message.to
    if not await contacts.takes_mail(connection, address):
        return _BOUNCES
    if stored.category is Category.MARKETING:
        topic = stored.topic or Topic.NEWS
        return "" if await contacts.consents(connection, address, topic) else _WITHDRAWN
    return ""


async def _accepted_before(connection: Connection, new: repository.NewEmail) -> str:
    email_id, known = await repository.find_by_key(connection, new.idempotency_key)
    if known != new.fingerprint:
        message = f"The idempotency key {new.idempotency_key!r} belongs to another mail."
        raise IdempotencyKeyReused(message)
    return email_id
