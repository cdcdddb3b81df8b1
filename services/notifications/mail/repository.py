"""Every statement on the table of mails."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from reliability.postgres import Connection
from services.notifications.mail.domain import Attempt, Category, EmailState, Message, Rendered

__all__ = ["NewEmail", "StoredEmail", "begin", "close", "count_failed", "find_by_key", "insert", "lock", "record"]

_INSERT = """
INSERT INTO emails (idempotency_key, fingerprint, category, "to", template, data, subject, html, text, message_id,
                    correlation_id, calendar)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id
"""
_LOCK = """
SELECT id, category, state, attempts, unreached, ambiguous, "to", subject, html, text, message_id, correlation_id,
       calendar, created_at, extract(epoch FROM now() - created_at)::float8 AS age
  FROM emails WHERE id = $1 FOR UPDATE
"""
_BEGIN = "UPDATE emails SET state = 'sending', attempts = attempts + 1, ambiguous = $2 WHERE id = $1"
_CLOSE = """
UPDATE emails SET state = $2, last_error = $3
 WHERE id = $1 AND state IN ('queued', 'retrying', 'sending')
"""
# The attempt's number is its fence: an attempt that came back late does not speak for the one that followed it.
_RECORD = """
UPDATE emails
   SET state = $3, ambiguous = $4, unreached = $5, last_error = $6,
       sent_at = CASE WHEN $3 = 'sent' THEN now() END
 WHERE id = $1 AND state = 'sending' AND attempts = $2
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


@dataclass(frozen=True, slots=True)
class StoredEmail:
    """A mail as its row has it."""

    id: str
    category: Category
    state: EmailState
    attempts: int
    unreached: int
    ambiguous: int
    age: float
    created_at: datetime
    message: Message

    def attempt(self, ambiguous: int) -> Attempt:
        """The attempt that begins now."""
        return Attempt(self.id, self.category, self.attempts + 1, self.unreached, ambiguous, self.age, self.message)


async def insert(connection: Connection, new: NewEmail) -> str | None:
    """Stores a mail; None when its key is taken. Waits for a transaction that is about to take it."""
    found = await connection.fetchval(
        _INSERT,
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
    )
    return None if found is None else str(found)


async def find_by_key(connection: Connection, idempotency_key: str) -> tuple[str, str]:
    """Id and fingerprint of the mail that has the key."""
    row = await connection.fetchrow("SELECT id, fingerprint FROM emails WHERE idempotency_key = $1", idempotency_key)
    assert row is not None  # mails are never deleted while their key counts
    return str(row["id"]), row["fingerprint"]


async def lock(connection: Connection, email_id: str) -> StoredEmail | None:
    """The mail, locked until the transaction ends; None when it is gone."""
    row = await connection.fetchrow(_LOCK, email_id)
    return None if row is None else _stored(row)


async def begin(connection: Connection, attempt: Attempt) -> None:
    """Writes down that an attempt begins."""
    await connection.execute(_BEGIN, attempt.email_id, attempt.ambiguous)


async def close(connection: Connection, email_id: str, state: EmailState, reason: str) -> None:
    """Ends a mail without another attempt."""
    await connection.execute(_CLOSE, email_id, state, reason)


async def record(
    connection: Connection, attempt: Attempt, state: EmailState, *, ambiguous: int, unreached: int, detail: str
) -> bool:
    """Writes down how an attempt ended; False when another one has begun meanwhile, or it is written already."""
    done = await connection.execute(_RECORD, attempt.email_id, attempt.number, state, ambiguous, unreached, detail)
    return done == "UPDATE 1"


async def count_failed(connection: Connection) -> int:
    """How many mails failed for good."""
    return int(await connection.fetchval("SELECT count(*) FROM emails WHERE state = 'failed'"))


def _stored(row: "asyncpg.Record") -> StoredEmail:
    message = Message(
        to=row["to"],
        content=Rendered(row["subject"], row["html"], row["text"]),
        message_id=row["message_id"],
        correlation_id=row["correlation_id"],
        date=row["created_at"],
        calendar=row["calendar"],
    )
    return StoredEmail(
        id=str(row["id"]),
        category=Category(row["category"]),
        state=EmailState(row["state"]),
        attempts=row["attempts"],
        unreached=row["unreached"],
        ambiguous=row["ambiguous"],
        age=row["age"],
        created_at=row["created_at"],
        message=message,
    )
