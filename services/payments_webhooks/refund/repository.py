"""Every statement on refunds."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from reliability.postgres import Connection
from services.payments_webhooks.intent.domain import Payment
from services.payments_webhooks.refund.domain import RefundState, Told

__all__ = ["Refund", "adopt", "by_stripe_id", "find", "find_by_key", "insert", "next_key", "refunded", "settle"]

_SELECT = """
SELECT r.id::text, r.payment_id::text, p.order_id::text, p.payment_intent_id, r.amount, r.currency, r.reason, r.state,
       r.failure_reason, r.stripe_key, r.stripe_refund_id, p.correlation_id, r.created_at, r.idempotency_key
  FROM refunds r JOIN payments p ON p.id = r.payment_id
"""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back, in minor units."""

    id: str
    payment_id: str
    order_id: str
    payment_intent_id: str
    amount: int
    currency: str
    reason: str
    state: RefundState
    failure_reason: str
    stripe_key: int
    stripe_refund_id: str | None
    correlation_id: str
    created_at: datetime
    idempotency_key: str

    @property
    def stripe_idempotency_key(self) -> str:
        """What Stripe recognises a repetition by. The first is the bare id."""
        return self.id if self.stripe_key == 1 else f"{self.id}:{self.stripe_key}"

    def metadata(self) -> dict[str, str]:
        """What Stripe keeps for us, so that a refund leads back to ours."""
        return {"refund_id": self.id, "order_id": self.order_id, "correlation_id": self.correlation_id}


def _refund(row: "asyncpg.Record | None") -> Refund | None:
    return Refund(**{**row, "state": RefundState(row["state"])}) if row else None


async def find(connection: Connection, refund_id: str) -> Refund | None:
    """A refund by our id."""
    return _refund(await connection.fetchrow(f"{_SELECT} WHERE r.id = $1", refund_id))


async def find_by_key(connection: Connection, key: str) -> Refund | None:
    """A refund by the key its asker named it with."""
    return _refund(await connection.fetchrow(f"{_SELECT} WHERE r.idempotency_key = $1", key))


async def by_stripe_id(connection: Connection, stripe_id: str) -> Refund | None:
    """A refund by Stripe's id."""
    return _refund(await connection.fetchrow(f"{_SELECT} WHERE r.stripe_refund_id = $1", stripe_id))


async def refunded(connection: Connection, payment_id: str) -> int:
    """What of a payment has gone back or is on its way, in minor units."""
    return int(
        await connection.fetchval(
            "SELECT coalesce(sum(amount), 0) FROM refunds WHERE payment_id = $1 AND state <> 'failed'", payment_id
        )
    )


async def insert(connection: Connection, key: str, payment_id: str, amount: int, currency: str, reason: str) -> str:
    """A new refund's id. The caller holds the payment's lock."""
    return str(
        await connection.fetchval(
            """
            INSERT INTO refunds (idempotency_key, payment_id, amount, currency, reason)
            VALUES ($1, $2, $3, $4, $5) RETURNING id
            """,
            key,
            payment_id,
            amount,
            currency,
            reason,
        )
    )


async def next_key(connection: Connection, refund: Refund) -> None:
    """Gives up a key of Stripe's; concurrent losers give up the same one."""
    await connection.execute(
        "UPDATE refunds SET stripe_key = stripe_key + 1, updated_at = now() WHERE id = $1 AND stripe_key = $2",
        refund.id,
        refund.stripe_key,
    )


async def adopt(connection: Connection, payment: Payment, told: Told) -> Refund:
    """A refund that somebody made at Stripe, as one of ours; made if it was not there."""
    await connection.execute(
        """
        INSERT INTO refunds (idempotency_key, payment_id, amount, currency, reason, stripe_refund_id)
        VALUES ('stripe:' || $1, $2, $3, $4, 'made at Stripe', $1) ON CONFLICT DO NOTHING
        """,
        told.id,
        payment.id,
        told.amount,
        told.currency,
    )
    refund = await by_stripe_id(connection, told.id)
    assert refund is not None  # there before, or inserted above
    return refund


async def settle(
    connection: Connection, refund_id: str, stripe_id: str | None, state: RefundState, reason: str
) -> bool:
    """Records what Stripe says of a refund; True when its state changed by this. `failed` may follow on `succeeded`."""
    before = await connection.fetchval("SELECT state FROM refunds WHERE id = $1 FOR UPDATE", refund_id)
    if before == "failed" or (before == "succeeded" and state == "pending"):
        return False
    await connection.execute(
        """
        UPDATE refunds
           SET stripe_refund_id = coalesce($2, stripe_refund_id), state = $3, failure_reason = $4, updated_at = now()
         WHERE id = $1
        """,
        refund_id,
        stripe_id,
        state,
        reason,
    )
    return bool(state != before)
