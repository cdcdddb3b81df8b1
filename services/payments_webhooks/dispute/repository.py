"""Every statement on disputes."""

from dataclasses import dataclass
from datetime import datetime

from reliability.postgres import Connection

__all__ = ["Dispute", "exists", "page", "upsert"]


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute as Stripe has it; amount in minor units, `status` in Stripe's words."""

    id: str
    payment_id: str | None
    payment_intent_id: str
    charge_id: str
    amount: int
    currency: str
    reason: str
    status: str
    evidence_due_by: datetime | None
    opened_at: datetime


async def upsert(connection: Connection, dispute: Dispute) -> str | None:
    """Records how a dispute stands; the status it had before, None for a new one."""
    before = await connection.fetchval("SELECT status FROM disputes WHERE id = $1 FOR UPDATE", dispute.id)
    await connection.execute(
        """
        INSERT INTO disputes (id, payment_id, payment_intent_id, charge_id, amount, currency, reason, status,
                              evidence_due_by, opened_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (id) DO UPDATE
               SET amount = excluded.amount, reason = excluded.reason, status = excluded.status,
                   evidence_due_by = excluded.evidence_due_by, updated_at = now()
        """,
        dispute.id,
        dispute.payment_id,
        dispute.payment_intent_id,
        dispute.charge_id,
        dispute.amount,
        dispute.currency,
        dispute.reason,
        dispute.status,
        dispute.evidence_due_by,
        dispute.opened_at,
    )
    return str(before) if before is not None else None


async def exists(connection: Connection, dispute_id: str) -> bool:
    """Whether we know of a dispute."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM disputes WHERE id = $1)", dispute_id))


async def page(connection: Connection, limit: int, before: str | None) -> list[Dispute]:
    """Disputes, newest first, that were opened before the one named."""
    rows = await connection.fetch(
        """
        SELECT id, payment_id::text, payment_intent_id, charge_id, amount, currency, reason, status, evidence_due_by,
               opened_at
          FROM disputes
         WHERE $2::text IS NULL OR (opened_at, id) < (SELECT opened_at, id FROM disputes WHERE id = $2)
         ORDER BY opened_at DESC, id DESC LIMIT $1
        """,
        limit,
        before,
    )
    return [Dispute(**row) for row in rows]
