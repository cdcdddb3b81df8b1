"""Every statement on the table of mails."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from reliability import jobs
from reliability.jobs import NO_OFFER, Job, Offer
from reliability.postgres import Connection
from reliability.telemetry import carrier
from services.notifications.contacts.repository import remembered, remembering
from services.notifications.mail.domain import Attempt, Category, EmailState, Message, Outcome, Rendered, Topic, Verdict
from services.notifications.schemas import OrderPaid

__all__ = [
    "SEND_EMAIL",
    "NewEmail",
    "StoredEmail",
    "accept",
    "again",
    "begin",
    "begin_fresh",
    "bounced",
    "close",
    "confirm",
    "count_failed",
    "discard",
    "find_by_key",
    "forget",
    "known",
    "listed",
    "lock",
    "overdue",
    "purge",
    "queue_age",
    "record",
    "sent",
]

SEND_EMAIL: Final = "send_email"

_ACCEPTING = f"""
accepted AS (
INSERT INTO emails (idempotency_key, fingerprint, category, "to", template, data, subject, html, text, message_id,
                    correlation_id, calendar, topic, unsubscribe)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id),
job AS ({
    jobs.enqueueing(
        "accepted",
        SEND_EMAIL,
        "jsonb_build_object('email_id', id)",
        order_key="'mail:' || id",
        correlation="$11",
        trace="$15::jsonb",
        lease="$16",
    )
})
"""
_ACCEPTED = "SELECT id, (SELECT to_jsonb(job) FROM job) AS job FROM accepted"
_ACCEPT = f"WITH {_ACCEPTING} {_ACCEPTED}"
_CONFIRM = f"WITH purchase AS ({remembering(17)}), {_ACCEPTING} {_ACCEPTED}"
_COLUMNS = """
id, category, template, {0}state, {0}attempts, unreached, ambiguous, "to", subject, html, text, message_id,
correlation_id, calendar, topic, unsubscribe, created_at, extract(epoch FROM now() - created_at)::float8 AS age
"""
_LOCK = f"SELECT {_COLUMNS.format('')} FROM emails WHERE id = $1 FOR UPDATE"
# What `begin` does, for a mail that needs no second look: nobody was interrupted, nothing bounced, no consent to ask.
_BEGIN_FRESH = f"""
UPDATE emails SET state = 'sending', attempts = attempts + 1, due_at = now()
 WHERE id = $1 AND state IN ('queued', 'retrying') AND category = 'transactional'
   AND NOT EXISTS (SELECT FROM suppressions WHERE address = lower("to") AND reason = 'bounced')
   AND lower("to") NOT LIKE '%@erased.example'
RETURNING {_COLUMNS.format("old.")}
"""
_BEGIN = """
UPDATE emails SET state = 'sending', attempts = attempts + 1, ambiguous = $2, due_at = now() WHERE id = $1
"""
_CLOSE = """
UPDATE emails SET state = $2, last_error = $3, settled_at = now()
 WHERE id = $1 AND state IN ('queued', 'retrying', 'sending')
"""
# The attempt's number is its fence: an attempt that came back late does not speak for the one that followed it.
_RECORD = """
UPDATE emails
   SET state = $3, ambiguous = $4, unreached = $5, last_error = nullif($6, ''),
       provider_id = coalesce(nullif($7, ''), provider_id),
       sent_at = CASE WHEN $3 = 'sent' THEN now() END,
       settled_at = CASE WHEN $3 <> 'retrying' THEN now() END,
       due_at = now() + $8 * interval '1 second'
 WHERE id = $1 AND state = 'sending' AND attempts = $2
"""
# The same with the end of its job, which must still be ours.
_SENT = f"""
WITH done AS ({jobs.completing("$5", "$6")}),
sent AS (
    UPDATE emails
       SET state = 'sent', unreached = $3, last_error = nullif($4, ''), sent_at = now(), settled_at = now(),
           provider_id = coalesce(nullif($7, ''), provider_id), due_at = now()
     WHERE id = $1 AND state = 'sending' AND attempts = $2 AND EXISTS (SELECT FROM done)
    RETURNING id)
SELECT (SELECT count(*) FROM done) AS done, (SELECT count(*) FROM sent) AS sent
"""
_OVERDUE = """
SELECT id, attempts FROM emails
 WHERE state IN ('queued', 'sending', 'retrying') AND due_at < now() - $1 * interval '1 second'
 ORDER BY due_at LIMIT $2
"""
# Attempts so far count as if they had met no server: the mail has all of them again, and the fence still grows.
_AGAIN = """
UPDATE emails SET state = 'queued', unreached = attempts, ambiguous = 0, settled_at = NULL, discarded_at = NULL,
                  due_at = now()
 WHERE id = $1 AND state IN ('failed', 'unknown')
"""
_DISCARD = """
UPDATE emails SET discarded_at = now() WHERE id = $1 AND state IN ('failed', 'unknown') AND discarded_at IS NULL
"""
_LIST = """
SELECT id, "to", template, subject, category, state, attempts, correlation_id, created_at, sent_at, last_error,
       provider_id, discarded_at IS NOT NULL AS discarded
  FROM emails
 WHERE ($1::text IS NULL OR state = $1) AND ($2::uuid IS NULL OR id < $2)
   AND ($3::text IS NULL OR lower("to") = lower($3))
 ORDER BY id DESC LIMIT $4
"""
# Sent again, it is another mail: to the first one's Message-ID the provider would answer that it has been sent.
_BOUNCED = """
UPDATE emails SET state = 'failed', sent_at = NULL, settled_at = now(), last_error = $2,
                  message_id = '<' || uuidv7() || substring(message_id FROM '@.*$')
 WHERE provider_id = $1 AND state = 'sent'
RETURNING id
"""
_RECIPIENT_BOUNCED = """
UPDATE campaign_recipients SET state = 'failed', last_error = $2 WHERE provider_id = $1 AND state = 'sent'
"""
_KNOWN = """
SELECT EXISTS (SELECT FROM emails WHERE provider_id = $1)
    OR EXISTS (SELECT FROM campaign_recipients WHERE provider_id = $1)
"""
_AGE = """
SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
  FROM emails WHERE state IN ('queued', 'sending', 'retrying')
"""
# The key stays taken, the words go: they may hold links that open an account.
_FORGET = """
UPDATE emails SET html = '', text = '', data = '{}', calendar = ''
 WHERE id IN (SELECT id FROM emails
               WHERE settled_at < now() - $1 * interval '1 day' AND html <> '' AND state <> 'failed' LIMIT 1000)
"""
_PURGE = """
DELETE FROM emails WHERE id IN (SELECT id FROM emails WHERE settled_at < now() - $1 * interval '1 day' LIMIT 1000)
"""


@dataclass(frozen=True, slots=True)
class NewEmail:
    """A mail that was accepted for delivery."""

    idempotency_key: str
    fingerprint: str
    category: Category
    to: str
    template: str
    data: dict[str, Any]
    content: Rendered
    message_id: str
    correlation_id: str
    calendar: str = ""
    topic: Topic | None = None
    unsubscribe: str = ""


@dataclass(frozen=True, slots=True)
class StoredEmail:
    """A mail as its row has it."""

    id: str
    category: Category
    topic: Topic | None
    template: str
    state: EmailState
    attempts: int
    unreached: int
    ambiguous: int
    age: float
    created_at: datetime
    message: Message

    def attempt(self, ambiguous: int, *, remembered: bool) -> Attempt:
        """The attempt that begins now."""
        number = self.attempts + 1
        return Attempt(self.id, self.category, number, self.unreached, ambiguous, self.age, self.message, remembered)


async def accept(connection: Connection, new: NewEmail, offer: Offer = NO_OFFER) -> str | None:
    """Stores a mail with the job that sends it; None when its key is taken.

    Waits for a transaction that is about to take it.
    """
    return _accepted_as(await connection.fetchrow(_ACCEPT, *_accepted(new), offer.lease), offer)


async def confirm(connection: Connection, new: NewEmail, paid: OrderPaid, offer: Offer) -> str | None:
    """`accept` of an order's confirmation in one statement with what is remembered of the order."""
    return _accepted_as(await connection.fetchrow(_CONFIRM, *_accepted(new), offer.lease, *remembered(paid)), offer)


def _accepted_as(row: "asyncpg.Record | None", offer: Offer) -> str | None:
    if row is None:
        return None
    offer.accept(row["job"])
    return str(row["id"])


def _accepted(new: NewEmail) -> tuple[Any, ...]:
    return (
        new.idempotency_key,
        new.fingerprint,
        new.category,
        new.to,
        new.template,
        new.data,
        new.content.subject,
        new.content.html,
        new.content.text,
        new.message_id,
        new.correlation_id,
        new.calendar,
        new.topic,
        new.unsubscribe,
        carrier(),
    )


async def find_by_key(connection: Connection, idempotency_key: str) -> tuple[str, str]:
    """Id and fingerprint of the mail that has the key."""
    row = await connection.fetchrow("SELECT id, fingerprint FROM emails WHERE idempotency_key = $1", idempotency_key)
    assert row is not None  # mails are never deleted while their key counts
    return str(row["id"]), row["fingerprint"]


async def lock(connection: Connection, email_id: str) -> StoredEmail | None:
    """The mail, locked until the transaction ends; None when it is gone."""
    row = await connection.fetchrow(_LOCK, email_id)
    return None if row is None else _stored(row)


async def begin_fresh(connection: Connection, email_id: str) -> StoredEmail | None:
    """Writes down that an attempt at a transactional mail begins; the mail as it was before, None for any other.

    None as well when an attempt was interrupted or an earlier mail bounced: then somebody has to look.
    """
    row = await connection.fetchrow(_BEGIN_FRESH, email_id)
    return None if row is None else _stored(row)


async def begin(connection: Connection, attempt: Attempt) -> None:
    """Writes down that an attempt begins."""
    await connection.execute(_BEGIN, attempt.email_id, attempt.ambiguous)


async def close(connection: Connection, email_id: str, state: EmailState, reason: str) -> None:
    """Ends a mail without another attempt."""
    await connection.execute(_CLOSE, email_id, state, reason)


async def record(
    connection: Connection, attempt: Attempt, outcome: Outcome, state: EmailState, *, wait: float = 0.0
) -> bool:
    """Writes down how an attempt ended; False when another one has begun meanwhile, or it is written already.

    `wait` is how many seconds the next attempt is away.
    """
    done = await connection.execute(
        _RECORD,
        attempt.email_id,
        attempt.number,
        state,
        attempt.ambiguous + (outcome.verdict is Verdict.UNKNOWN),
        attempt.unreached + (outcome.verdict is Verdict.UNREACHABLE),
        outcome.detail,
        outcome.provider_id,
        wait,
    )
    return done == "UPDATE 1"


async def sent(connection: Connection, attempt: Attempt, outcome: Outcome, job: Job) -> bool:
    """`record` of a mail that the server took, with the end of its job. Raises `LeaseLost`."""
    row = await connection.fetchrow(
        _SENT,
        attempt.email_id,
        attempt.number,
        attempt.unreached,
        outcome.detail,
        job.id,
        job.fence,
        outcome.provider_id,
    )
    assert row is not None  # a SELECT without FROM has one row
    job.settled(ours=bool(row["done"]))
    return bool(row["sent"])


async def overdue(connection: Connection, seconds: float, limit: int) -> list[tuple[str, int]]:
    """Mails that should have gone out so many seconds ago: id, and attempts so far."""
    return [(str(row["id"]), row["attempts"]) for row in await connection.fetch(_OVERDUE, seconds, limit)]


async def again(connection: Connection, email_id: str) -> bool:
    """Queues a mail that failed, or may have, with all its attempts; False when it did neither."""
    return await connection.execute(_AGAIN, email_id) == "UPDATE 1"


async def discard(connection: Connection, email_id: str) -> bool:
    """Notes that somebody has dealt with a failed mail; False when there was nothing to deal with."""
    return await connection.execute(_DISCARD, email_id) == "UPDATE 1"


async def bounced(connection: Connection, provider_id: str, reason: str) -> str | None:
    """Takes "sent" back from a mail that came back; the id of a single mail, None for a campaign's or a stranger."""
    await connection.execute(_RECIPIENT_BOUNCED, provider_id, reason)
    found = await connection.fetchval(_BOUNCED, provider_id, reason)
    return None if found is None else str(found)


async def known(connection: Connection, provider_id: str) -> bool:
    """Whether a mail of ours is called that."""
    return bool(await connection.fetchval(_KNOWN, provider_id))


async def listed(
    connection: Connection, *, state: str | None, before: str | None, to: str | None, limit: int
) -> list["asyncpg.Record"]:
    """Mails without their words, newest first."""
    return await connection.fetch(_LIST, state, before, to, limit)


async def queue_age(connection: Connection) -> float:
    """Seconds since the oldest mail that has not gone out was accepted."""
    return float(await connection.fetchval(_AGE))


async def forget(connection: Connection, *, days: int) -> int:
    """Blanks the words of mails settled that long ago, 1,000 at most; failed ones may still be sent again."""
    return int((await connection.execute(_FORGET, days)).split()[-1])


async def purge(connection: Connection, *, days: int) -> int:
    """Deletes mails settled that long ago, 1,000 at most."""
    return int((await connection.execute(_PURGE, days)).split()[-1])


async def count_failed(connection: Connection) -> int:
    """How many mails failed for good and wait for somebody to look at them."""
    return int(await connection.fetchval("SELECT count(*) FROM emails WHERE state = 'failed' AND discarded_at IS NULL"))


def _stored(row: "asyncpg.Record") -> StoredEmail:
    message = Message(
        to=row["to"],
        content=Rendered(row["subject"], row["html"], row["text"]),
        message_id=row["message_id"],
        correlation_id=row["correlation_id"],
        date=row["created_at"],
        calendar=row["calendar"],
        unsubscribe=row["unsubscribe"],
    )
    return StoredEmail(
        id=str(row["id"]),
        category=Category(row["category"]),
        topic=row["topic"] and Topic(row["topic"]),
        template=row["template"],
        state=EmailState(row["state"]),
        attempts=row["attempts"],
        unreached=row["unreached"],
        ambiguous=row["ambiguous"],
        age=row["age"],
        created_at=row["created_at"],
        message=message,
    )
