"""Accepting a mail, and sending it: two transactions with the mail server between them."""

from dataclasses import dataclass
from typing import Final

from opentelemetry import metrics
from opentelemetry.trace import SpanKind

from reliability import jobs, telemetry
from reliability.cancellation import uninterrupted
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import IdempotencyKeyReused, Unavailable
from reliability.fingerprint import fingerprint
from reliability.ids import new_id
from reliability.jobs import Job, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import retry
from services.notifications.contacts import repository as contacts
from services.notifications.mail import repository
from services.notifications.mail.backoff import seconds_until_next
from services.notifications.mail.domain import (
    Attempt,
    Category,
    EmailState,
    Outcome,
    Verdict,
    may_resume,
    state_after,
)
from services.notifications.mail.mailer import Mailer
from services.notifications.mail.templates import Templates
from services.notifications.schemas import MailRequest

__all__ = ["SEND_EMAIL", "MailService", "Summary"]

SEND_EMAIL: Final = "send_email"
_INTERRUPTED: Final = "the worker stopped while the mail was on its way"
_WITHDRAWN: Final = "no consent to marketing, or the address is suppressed"

_log = get_logger(__name__)
_outcomes = metrics.get_meter("holdfast").create_counter(
    "holdfast.mail.attempts", description="Attempts to send a mail by category and verdict"
)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures for the dashboard."""

    failed_emails: int
    dead_letters: int


class MailService:
    """The use cases of single mails."""

    def __init__(
        self, database: Database, templates: Templates, mailer: Mailer, *, domain: str, retry_seconds: float
    ) -> None:
        self._database = database
        self._templates = templates
        self._mailer = mailer
        self._domain = domain
        self._retry_seconds = retry_seconds

    async def send_email(self, request: MailRequest) -> str:
        """Accepts a mail for delivery and answers its id; the same key again answers the same id.

        It is rendered before it is stored, so that what cannot be written is the caller's error and never a job
        that fails for ever. Raises `UnknownTemplate`, `ValidationFailed`, `IdempotencyKeyReused`.
        """
        template = self._templates.find(request.template)
        data, content = self._templates.render(template, request.data, attached=bool(request.calendar_ics))
        asked = request.model_dump(
            include={"to", "template", "data", *({"calendar_ics"} if request.calendar_ics else ())}
        )
        new = repository.NewEmail(
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint("send_email", asked),
            category=template.category,
            to=request.to,
            template=template.name,
            data=data.model_dump(mode="json"),
            content=content,
            message_id=f"<{new_id()}@{self._domain}>",
            correlation_id=correlation_id(),
            calendar=request.calendar_ics,
        )
        async with self._database.transaction("accept mail") as connection:
            email_id = await repository.insert(connection, new)
            if email_id is None:
                return await _accepted_before(connection, new)
            await jobs.enqueue(connection, SEND_EMAIL, {"email_id": email_id})
            return email_id

    async def deliver(self, job: Job, email_id: str) -> None:
        """Sends one mail and writes down what became of it. Raises `Snooze` when it goes out again later."""
        await uninterrupted(self._deliver(job, email_id))

    async def give_up(self, connection: Connection, email_id: str, reason: str) -> None:
        """Ends a mail whose job is out of attempts, in the transaction that parks the job."""
        stored = await repository.lock(connection, email_id)
        if stored is None or stored.state.final:
            return
        unseen = stored.state is EmailState.SENDING or stored.ambiguous > 0
        await repository.close(connection, email_id, EmailState.UNKNOWN if unseen else EmailState.FAILED, reason)

    async def summary(self) -> Summary:
        """Mail that failed for good, and jobs that ran out of attempts."""
        async with self._database.connection() as connection:
            return Summary(await repository.count_failed(connection), await jobs.count_dead_letters(connection))

    async def _deliver(self, job: Job, email_id: str) -> None:
        async with self._database.transaction("begin attempt") as connection:
            attempt = await self._begin(connection, email_id)
            if attempt is None:
                await job.complete(connection)
                return
        crash_point("mail.not_sent")
        with telemetry.span("mail send", SpanKind.CLIENT, messaging_message_id=attempt.message.message_id):
            outcome = await self._mailer.send(attempt.message)
        crash_point("mail.not_noted")
        _outcomes.add(1, {"category": attempt.category, "verdict": outcome.verdict})

        async def record() -> EmailState:
            return await self._record(job, attempt, outcome)

        # The server has answered and will not say it again: a database that is away for a moment is waited for.
        state = await retry(record, retryable=lambda error: isinstance(error, Unavailable), attempts=8)
        _log.info("mail_attempted", email_id=email_id, attempt=attempt.number, verdict=outcome.verdict, state=state)
        if state is EmailState.RETRYING:
            raise Snooze(
                seconds_until_next(outcome, attempts=attempt.counted, age=attempt.age, first=self._retry_seconds)
            )

    async def _begin(self, connection: Connection, email_id: str) -> Attempt | None:
        """The attempt to make, written down as begun; None when there is none to make."""
        stored = await repository.lock(connection, email_id)
        if stored is None or stored.state.final:
            return None
        ambiguous = stored.ambiguous
        if stored.state is EmailState.SENDING:
            # An attempt began and nobody wrote down its end: the server may have accepted it.
            if not may_resume(stored.category, ambiguous):
                await repository.close(connection, email_id, EmailState.UNKNOWN, _INTERRUPTED)
                return None
            ambiguous += 1
        if stored.category is Category.MARKETING and not await contacts.consents(connection, stored.message.to):
            await repository.close(connection, email_id, EmailState.SUPPRESSED, _WITHDRAWN)
            return None
        attempt = stored.attempt(ambiguous)
        await repository.begin(connection, attempt)
        return attempt

    async def _record(self, job: Job, attempt: Attempt, outcome: Outcome) -> EmailState:
        state = state_after(attempt, outcome)
        async with self._database.transaction("record attempt") as connection:
            await repository.record(
                connection,
                attempt,
                state,
                ambiguous=attempt.ambiguous + (outcome.verdict is Verdict.UNKNOWN),
                unreached=attempt.unreached + (outcome.verdict is Verdict.UNREACHABLE),
                detail=outcome.detail,
            )
            if state is not EmailState.RETRYING:
                await job.complete(connection)
        return state


async def _accepted_before(connection: Connection, new: repository.NewEmail) -> str:
    email_id, known = await repository.find_by_key(connection, new.idempotency_key)
    if known != new.fingerprint:
        message = f"The idempotency key {new.idempotency_key!r} belongs to another mail."
        raise IdempotencyKeyReused(message)
    return email_id
