"""Every statement on campaigns and their ledger of recipients."""

from collections.abc import Sequence
from dataclasses import dataclass

from reliability.postgres import Connection
from services.notifications.campaigns.domain import (
    Batch,
    Body,
    CampaignStatus,
    Draft,
    Frozen,
    Recipient,
    RecipientState,
    Stats,
)

__all__ = [
    "Delivery",
    "claim",
    "finish",
    "freeze",
    "frozen",
    "insert",
    "interrupted",
    "record",
    "seconds_to_next",
    "start",
    "stats",
    "status",
]

_INSERT = """
INSERT INTO campaigns (name, subject, template, html, html_pieces, text_pieces, audience, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id
"""
# One of any number of clicks finds a draft.
_START = """
UPDATE campaigns SET status = 'sending', started_at = now(), started_by = $2, correlation_id = $3
 WHERE id = $1 AND status = 'draft'
"""
# One row per address, numbered into batches in an order that never changes.
_FREEZE = """
INSERT INTO campaign_recipients (campaign_id, contact_id, batch_no, email, name, message_id)
SELECT $1, id, (row_number() OVER (ORDER BY id) - 1) / $2, email, name, '<' || uuidv7() || '@' || $3 || '>'
  FROM (SELECT DISTINCT ON (lower(email)) id, email, name
          FROM contacts
         WHERE marketing_consent AND NOT suppressed
         ORDER BY lower(email), id) AS audience
"""
_SIZE = "UPDATE campaigns SET recipients = $2, batches = $3 WHERE id = $1"
_FROZEN = """
SELECT subject, html_pieces, text_pieces, correlation_id, started_at, batches FROM campaigns WHERE id = $1
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
       last_error = nullif(new.detail, '')
  FROM unnest($2::uuid[], $3::int[], $4::text[], $5::bool[], $6::float8[], $7::text[])
       AS new (contact_id, attempt, state, unreached, wait, detail)
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
 WHERE id = $1 AND status = 'sending'
   AND NOT EXISTS (SELECT FROM campaign_recipients WHERE campaign_id = $1 AND state IN ('queued', 'sending'))
"""
_STATS = """
SELECT status, recipients,
       coalesce(sum(n) FILTER (WHERE state IN ('queued', 'sending')), 0)::bigint AS queued,
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one recipient's attempt ended."""

    recipient: Recipient
    state: RecipientState
    unreached: bool
    wait: float
    detail: str


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


async def start(connection: Connection, campaign_id: str, staff_id: str, correlation_id: str) -> bool:
    """Starts a draft; False when it is none (any more). Waits for another click that is about to start it."""
    return await connection.execute(_START, campaign_id, staff_id, correlation_id) == "UPDATE 1"


async def status(connection: Connection, campaign_id: str) -> CampaignStatus | None:
    """The status of a campaign; None when there is no such campaign."""
    found = await connection.fetchval("SELECT status FROM campaigns WHERE id = $1", campaign_id)
    return None if found is None else CampaignStatus(found)


async def freeze(connection: Connection, campaign_id: str, batch_size: int, domain: str) -> tuple[int, int]:
    """Writes the ledger: everybody the campaign goes to, in batches; how many of each there are."""
    done = await connection.execute(_FREEZE, campaign_id, batch_size, domain)
    recipients = int(done.split()[-1])
    batches = -(-recipients // batch_size)
    await connection.execute(_SIZE, campaign_id, recipients, batches)
    return recipients, batches


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
    )


async def interrupted(connection: Connection, batch: Batch, reason: str) -> int:
    """Marks recipients whose attempt nobody finished as unknown; how many there were."""
    done = await connection.execute(_INTERRUPTED, batch.campaign_id, batch.number, reason)
    return int(done.split()[-1])


async def claim(connection: Connection, batch: Batch, limit: int) -> tuple[int, list[Recipient]]:
    """Begins the next attempts of a batch: how many were looked at, and those whose mail may go out."""
    rows = await connection.fetch(_CLAIM, batch.campaign_id, batch.number, limit)
    return len(rows), [
        Recipient(
            contact_id=str(row["contact_id"]),
            email=row["email"],
            name=row["name"],
            message_id=row["message_id"],
            attempt=row["attempts"],
            unreached=row["unreached"],
        )
        for row in rows
        if row["state"] == RecipientState.SENDING
    ]


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
