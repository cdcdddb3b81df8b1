"""Every statement on campaigns and their ledger of recipients."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from reliability.postgres import Connection
from services.notifications.campaigns.domain import (
    Batch,
    Body,
    CampaignStatus,
    Chunk,
    Draft,
    Frozen,
    Recipient,
    RecipientState,
    Shipment,
    Stats,
)

__all__ = [
    "Delivery",
    "claim",
    "count_audience",
    "delete",
    "finish",
    "freeze",
    "frozen",
    "get",
    "insert",
    "interrupted",
    "leave_unflushed",
    "listed",
    "move",
    "open_shipment",
    "purge_shipments",
    "record",
    "schedule",
    "seconds_to_next",
    "settle_shipment",
    "start",
    "stats",
    "status",
    "store_shipment",
    "undelivered",
    "update",
]

_INSERT = """
INSERT INTO campaigns (name, subject, template, html, html_pieces, text_pieces, audience, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id
"""
_UPDATE = """
UPDATE campaigns SET name = $2, subject = $3, template = $4, html = $5, html_pieces = $6, text_pieces = $7,
       audience = $8
 WHERE id = $1 AND status = 'draft'
"""
_DELETE = "DELETE FROM campaigns WHERE id = $1 AND status = 'draft'"
_GET = """
SELECT id, name, subject, template, html, audience, status, recipients, created_at, scheduled_at, started_at,
       finished_at, html_pieces, text_pieces, created_by
  FROM campaigns WHERE id = $1
"""
_LIST = """
SELECT id, name, subject, status, recipients, created_at FROM campaigns
 WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
"""
# One of any number of clicks finds a draft.
_START = """
UPDATE campaigns
   SET status = 'sending', started_at = now(), started_by = coalesce(nullif($2, ''), started_by), correlation_id = $3
 WHERE id = $1 AND status = $4
"""
_SCHEDULE = """
UPDATE campaigns SET status = 'scheduled', scheduled_at = $2, started_by = $3 WHERE id = $1 AND status = 'draft'
"""
_PAUSE = "UPDATE campaigns SET status = 'paused' WHERE id = $1 AND status = 'sending'"
_RESUME = "UPDATE campaigns SET status = 'sending' WHERE id = $1 AND status = 'paused'"
_CANCEL = """
UPDATE campaigns SET status = 'cancelled', finished_at = now()
 WHERE id = $1 AND status IN ('scheduled', 'sending', 'paused')
"""
_MATCHES = """
       c.marketing_consent AND NOT c.suppressed
   AND (cardinality($3::text[]) = 0 OR EXISTS (
        SELECT FROM purchases WHERE buyer IN (c.id::text, lower(c.email)) AND product_ids && $3::text[]))
   AND ($4::bigint IS NULL OR $4 < (
        SELECT coalesce(sum(total - refunded), 0) FROM purchases
         WHERE buyer IN (c.id::text, lower(c.email)) AND currency = $5::text))
   AND ($6::int IS NULL OR NOT EXISTS (
        SELECT FROM purchases
         WHERE buyer IN (c.id::text, lower(c.email)) AND paid_at > $2::timestamptz - $6 * interval '1 day'))
"""
_COUNT = (
    f"SELECT count(*) FROM contacts AS c WHERE c.known_at <= $2::timestamptz AND $1::uuid IS NOT NULL AND {_MATCHES}"
)
# A stretch of contacts in the order of their ids: one row per address, numbered into batches in an order that never
# changes. Who became known after the start is none of it, whichever transaction comes to the row. The stretch is cut
# by id alone, so that its index is walked and nothing is sorted again for every stretch.
_FREEZE = f"""
WITH stretch AS (
    SELECT id, email, name, c.known_at <= $2::timestamptz AND {_MATCHES} AS wanted FROM contacts AS c
     WHERE c.id > $7 ORDER BY c.id LIMIT $8),
addresses AS (
    SELECT DISTINCT ON (lower(email)) id, email, name FROM stretch WHERE wanted ORDER BY lower(email), id),
numbered AS (
    SELECT id, email, name, $9 + row_number() OVER (ORDER BY id) - 1 AS number FROM addresses),
frozen AS (
    INSERT INTO campaign_recipients (campaign_id, contact_id, batch_no, email, name, message_id)
    SELECT $1, id, number / $10, email, name,
           '<' || left(encode(sha256(uuid_send($1) || uuid_send(id)), 'hex'), 32) || '@' || $11 || '>'
      FROM numbered
        ON CONFLICT (campaign_id, lower(email)) DO NOTHING
    RETURNING 1)
SELECT (SELECT id FROM stretch ORDER BY id DESC LIMIT 1) AS up_to, (SELECT count(*) FROM stretch) AS seen,
       (SELECT count(*) FROM numbered) AS numbered, (SELECT count(*) FROM frozen) AS recipients
"""
_FREEZING = """
SELECT audience, started_at, frozen_up_to, numbered FROM campaigns
 WHERE id = $1 AND NOT frozen AND status IN ('sending', 'paused') FOR UPDATE
"""
_FROZEN_SO_FAR = """
UPDATE campaigns
   SET recipients = recipients + $2, numbered = numbered + $3, frozen_up_to = coalesce($4, frozen_up_to), frozen = $5,
       batches = CASE WHEN $5 THEN (numbered + $3 + $6 - 1) / $6 ELSE 0 END
 WHERE id = $1
"""
_FROZEN = """
SELECT subject, html_pieces, text_pieces, correlation_id, started_at, batches, status FROM campaigns WHERE id = $1
"""
_INTERRUPTED = """
UPDATE campaign_recipients SET state = 'unknown', settled_at = now(), last_error = $3
 WHERE campaign_id = $1 AND batch_no = $2 AND state = 'sending'
"""
# Consent is looked at once more in the statement that claims. Who has no contact any more has withdrawn it.
_CLAIM = """
WITH due AS (
    SELECT campaign_id, contact_id FROM campaign_recipients
     WHERE campaign_id = $1 AND batch_no = $2 AND state = 'queued' AND (retry_at IS NULL OR retry_at <= now())
       AND EXISTS (SELECT FROM campaigns WHERE id = $1 AND status = 'sending')
     ORDER BY contact_id
     LIMIT $3
       FOR UPDATE SKIP LOCKED),
checked AS (
    SELECT due.*, coalesce(contacts.marketing_consent AND NOT contacts.suppressed, false) AS wanted
      FROM due LEFT JOIN contacts ON contacts.id = due.contact_id)
UPDATE campaign_recipients AS r
   SET state = CASE WHEN wanted THEN 'sending' ELSE 'suppressed' END,
       attempts = attempts + wanted::int,
       settled_at = CASE WHEN NOT wanted THEN now() END
  FROM checked
 WHERE r.campaign_id = checked.campaign_id AND r.contact_id = checked.contact_id
RETURNING r.contact_id, r.email, r.name, r.message_id, r.state, r.attempts, r.unreached
"""
# The attempt's number is its fence. An answer that comes late, when the recipient is unknown already, is
# still the answer: nobody gets a second attempt after an unknown one.
_RECORD = """
UPDATE campaign_recipients AS r
   SET state = new.state,
       unreached = r.unreached + new.unreached::int,
       retry_at = CASE WHEN new.state = 'queued' THEN now() + new.wait * interval '1 second' END,
       settled_at = CASE WHEN new.state <> 'queued' THEN now() END,
       last_error = nullif(new.detail, ''),
       provider_id = coalesce(nullif(new.provider_id, ''), r.provider_id)
  FROM unnest($2::uuid[], $3::int[], $4::text[], $5::bool[], $6::float8[], $7::text[], $8::text[])
       AS new (contact_id, attempt, state, unreached, wait, detail, provider_id)
 WHERE r.campaign_id = $1 AND r.contact_id = new.contact_id AND r.attempts = new.attempt
   AND (r.state = 'sending' OR (r.state = 'unknown' AND new.state <> 'queued'))
"""
_NEXT = """
SELECT extract(epoch FROM min(CASE state WHEN 'queued' THEN coalesce(retry_at, now()) ELSE now() + interval '5 s' END)
               - now())::float8
  FROM campaign_recipients WHERE campaign_id = $1 AND batch_no = $2 AND state IN ('queued', 'sending')
"""
_FINISH = """
UPDATE campaigns SET status = 'finished', finished_at = now()
 WHERE id = $1 AND status = 'sending' AND frozen
   AND NOT EXISTS (SELECT FROM campaign_recipients WHERE campaign_id = $1 AND state IN ('queued', 'sending'))
"""
_STATS = """
SELECT status, recipients,
       coalesce(sum(n) FILTER (WHERE state = 'sending' OR (state = 'queued' AND status <> 'cancelled')), 0)::bigint
           AS queued,
       coalesce(sum(n) FILTER (WHERE state = 'queued' AND status = 'cancelled'), 0)::bigint AS cancelled,
       coalesce(sum(n) FILTER (WHERE state = 'sent'), 0)::bigint AS sent,
       coalesce(sum(n) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
       coalesce(sum(n) FILTER (WHERE state = 'unknown'), 0)::bigint AS unknown,
       coalesce(sum(n) FILTER (WHERE state = 'suppressed'), 0)::bigint AS suppressed
  FROM campaigns
  LEFT JOIN LATERAL (SELECT state, count(*) AS n FROM campaign_recipients WHERE campaign_id = id GROUP BY state) AS r
       ON true
 WHERE id = $1
 GROUP BY status, recipients
"""
_UNDELIVERED = """
SELECT contact_id, email, state, attempts, last_error, settled_at FROM campaign_recipients
 WHERE campaign_id = $1 AND state IN ('failed', 'unknown') AND ($2::text IS NULL OR state = $2)
   AND ($3::uuid IS NULL OR contact_id > $3)
 ORDER BY contact_id LIMIT $4
"""
_OPEN_SHIPMENT = """
SELECT id, contacts, packed, extract(epoch FROM now() - created_at)::float8 AS age
  FROM campaign_shipments WHERE campaign_id = $1 AND batch_no = $2 AND settled_at IS NULL
   FOR UPDATE
"""
_MEMBERS = """
SELECT contact_id, email, name, message_id, attempts, unreached FROM campaign_recipients
 WHERE campaign_id = $1 AND contact_id = ANY($2::uuid[])
"""
_SHIPMENT = """
INSERT INTO campaign_shipments (campaign_id, batch_no, contacts, packed) VALUES ($1, $2, $3, $4) RETURNING id
"""
_SETTLE = "UPDATE campaign_shipments SET settled_at = now() WHERE id = $1 AND settled_at IS NULL"
_PURGE_SHIPMENTS = """
DELETE FROM campaign_shipments WHERE id IN (
    SELECT id FROM campaign_shipments WHERE settled_at < now() - $1 * interval '1 day' LIMIT 1000)
"""
_BEFORE_ANY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one recipient's attempt ended."""

    recipient: Recipient
    state: RecipientState
    unreached: bool
    wait: float
    detail: str
    provider_id: str = ""


async def insert(connection: Connection, draft: Draft) -> str:
    """Stores a draft."""
    found = await connection.fetchval(
        _INSERT,
        draft.name,
        draft.subject,
        draft.template,
        draft.html,
        draft.body.html,
        draft.body.text,
        draft.audience,
        draft.staff_id,
    )
    return str(found)


async def update(connection: Connection, campaign_id: str, draft: Draft) -> bool:
    """Replaces a draft; False when it is none (any more)."""
    done = await connection.execute(
        _UPDATE,
        campaign_id,
        draft.name,
        draft.subject,
        draft.template,
        draft.html,
        draft.body.html,
        draft.body.text,
        draft.audience,
    )
    return done == "UPDATE 1"


async def delete(connection: Connection, campaign_id: str) -> bool:
    """Deletes a draft; False when it is none (any more)."""
    return await connection.execute(_DELETE, campaign_id) == "DELETE 1"


async def get(connection: Connection, campaign_id: str) -> "asyncpg.Record | None":
    """A campaign's row; None when there is no such campaign."""
    return await connection.fetchrow(_GET, campaign_id)


async def listed(connection: Connection, before: str | None, limit: int) -> list["asyncpg.Record"]:
    """Campaigns, newest first."""
    return await connection.fetch(_LIST, before, limit)


async def start(
    connection: Connection, campaign_id: str, staff_id: str, correlation_id: str, *, from_status: CampaignStatus
) -> bool:
    """Starts a campaign that has this status; False when it has not (any more). Waits for another such click."""
    return await connection.execute(_START, campaign_id, staff_id, correlation_id, from_status) == "UPDATE 1"


async def schedule(connection: Connection, campaign_id: str, at: datetime, staff_id: str) -> bool:
    """Lets a draft start later; False when it is none (any more)."""
    return await connection.execute(_SCHEDULE, campaign_id, at, staff_id) == "UPDATE 1"


async def move(connection: Connection, campaign_id: str, to: CampaignStatus) -> bool:
    """Pauses, resumes or cancels; False when the campaign's status does not allow it."""
    statement = {
        CampaignStatus.PAUSED: _PAUSE,
        CampaignStatus.SENDING: _RESUME,
        CampaignStatus.CANCELLED: _CANCEL,
    }[to]
    return await connection.execute(statement, campaign_id) == "UPDATE 1"


async def status(connection: Connection, campaign_id: str) -> CampaignStatus | None:
    """The status of a campaign; None when there is no such campaign."""
    found = await connection.fetchval("SELECT status FROM campaigns WHERE id = $1", campaign_id)
    return None if found is None else CampaignStatus(found)


async def count_audience(connection: Connection, campaign_id: str) -> int:
    """How many contacts match, before two with one address are counted as one."""
    row = await connection.fetchrow("SELECT audience, started_at FROM campaigns WHERE id = $1", campaign_id)
    assert row is not None  # it was started in this transaction
    return int(await connection.fetchval(_COUNT, campaign_id, row["started_at"], *_filters(row["audience"])))


async def freeze(connection: Connection, campaign_id: str, batch_size: int, domain: str, limit: int) -> Chunk | None:
    """Writes the next stretch of the ledger; None when there is nothing (more) to freeze.

    The campaign's row is locked: two workers at it write one stretch after the other.
    """
    row = await connection.fetchrow(_FREEZING, campaign_id)
    if row is None:
        return None
    filters, done, numbered = _filters(row["audience"]), row["frozen_up_to"] or _BEFORE_ANY, row["numbered"]
    found = await connection.fetchrow(
        _FREEZE, campaign_id, row["started_at"], *filters, done, limit, numbered, batch_size, domain
    )
    assert found is not None  # a query of scalars has a row
    last = found["seen"] < limit
    await connection.execute(
        _FROZEN_SO_FAR, campaign_id, found["recipients"], found["numbered"], found["up_to"], last, batch_size
    )
    return Chunk(found["recipients"], last)


async def leave_unflushed(connection: Connection) -> None:
    """Lets a stretch commit without waiting for the disk.

    It may be lost when the database's machine dies, and with it all that was written after it: then the next stretch
    begins where the last one on the disk ended. The stretch that queues the batches waits for the disk, and so for
    every stretch before it.
    """
    await connection.execute("SET LOCAL synchronous_commit = off")


def _filters(audience: dict[str, Any]) -> tuple[list[str], int | None, str | None, int | None]:
    spent = audience.get("spent_over") or {}
    return (
        audience.get("bought_product_ids") or [],
        spent.get("amount"),
        spent.get("currency"),
        audience.get("inactive_days"),
    )


async def frozen(connection: Connection, campaign_id: str) -> Frozen | None:
    """What a started campaign sends; None when it is gone."""
    row = await connection.fetchrow(_FROZEN, campaign_id)
    if row is None:
        return None
    return Frozen(
        subject=row["subject"],
        body=Body(tuple(row["html_pieces"]), tuple(row["text_pieces"])),
        correlation_id=row["correlation_id"],
        started_at=row["started_at"],
        batches=row["batches"],
        status=CampaignStatus(row["status"]),
    )


async def interrupted(connection: Connection, batch: Batch, reason: str) -> int:
    """Marks recipients whose attempt nobody finished as unknown; how many there were."""
    done = await connection.execute(_INTERRUPTED, batch.campaign_id, batch.number, reason)
    return int(done.split()[-1])


async def claim(connection: Connection, batch: Batch, limit: int) -> tuple[int, list[Recipient]]:
    """Begins the next attempts of a batch: how many were looked at, and those whose mail may go out."""
    rows = await connection.fetch(_CLAIM, batch.campaign_id, batch.number, limit)
    return len(rows), [_recipient(row) for row in rows if row["state"] == RecipientState.SENDING]


def _recipient(row: "asyncpg.Record") -> Recipient:
    return Recipient(
        contact_id=str(row["contact_id"]),
        email=row["email"],
        name=row["name"],
        message_id=row["message_id"],
        attempt=row["attempts"],
        unreached=row["unreached"],
    )


async def undelivered(
    connection: Connection, campaign_id: str, *, state: str | None, after: str | None, limit: int
) -> list["asyncpg.Record"]:
    """Recipients that failed or are unknown, in the order of their ids."""
    return await connection.fetch(_UNDELIVERED, campaign_id, state, after, limit)


async def open_shipment(connection: Connection, batch: Batch) -> Shipment | None:
    """The batch's shipment whose end nobody wrote down; None when there is none."""
    row = await connection.fetchrow(_OPEN_SHIPMENT, batch.campaign_id, batch.number)
    if row is None:
        return None
    members = await connection.fetch(_MEMBERS, batch.campaign_id, row["contacts"])
    by_id = {member["contact_id"]: _recipient(member) for member in members}
    recipients = tuple(by_id[contact] for contact in row["contacts"])
    return Shipment(str(row["id"]), row["packed"], row["age"], recipients, fresh=False)


async def store_shipment(
    connection: Connection, batch: Batch, recipients: Sequence[Recipient], packed: bytes
) -> Shipment:
    """Keeps who is in a shipment and its bytes, before it goes out."""
    contacts = [recipient.contact_id for recipient in recipients]
    found = await connection.fetchval(_SHIPMENT, batch.campaign_id, batch.number, contacts, packed)
    return Shipment(str(found), packed, 0.0, tuple(recipients), fresh=True)


async def settle_shipment(connection: Connection, shipment_id: str) -> None:
    """Notes that what became of a shipment is known."""
    await connection.execute(_SETTLE, shipment_id)


async def purge_shipments(connection: Connection, *, days: int) -> int:
    """Deletes shipments settled that long ago, 1,000 at most."""
    return int((await connection.execute(_PURGE_SHIPMENTS, days)).split()[-1])


async def record(connection: Connection, batch: Batch, deliveries: Sequence[Delivery]) -> None:
    """Writes down how attempts ended, in one statement."""
    await connection.execute(
        _RECORD,
        batch.campaign_id,
        [delivery.recipient.contact_id for delivery in deliveries],
        [delivery.recipient.attempt for delivery in deliveries],
        [delivery.state for delivery in deliveries],
        [delivery.unreached for delivery in deliveries],
        [delivery.wait for delivery in deliveries],
        [delivery.detail for delivery in deliveries],
        [delivery.provider_id for delivery in deliveries],
    )


async def seconds_to_next(connection: Connection, batch: Batch) -> float | None:
    """Seconds until a batch has something to do again; None when every recipient is settled."""
    found = await connection.fetchval(_NEXT, batch.campaign_id, batch.number)
    return None if found is None else max(0.0, float(found))


async def finish(connection: Connection, campaign_id: str) -> bool:
    """Finishes a campaign that has no open recipient.

    Batches commit their recipients before they ask: of two that end at once, the later statement sees both.
    """
    return await connection.execute(_FINISH, campaign_id) == "UPDATE 1"


async def stats(connection: Connection, campaign_id: str) -> Stats | None:
    """How far a campaign has come; None when there is no such campaign."""
    row = await connection.fetchrow(_STATS, campaign_id)
    return None if row is None else Stats(**{**row, "status": CampaignStatus(row["status"])})
