"""What staff are shown of orders: every statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reliability.postgres import Connection

__all__ = ["OrderRow", "facts", "listed"]

_REFUNDED: Final = """
coalesce((SELECT sum(r.amount) FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
           WHERE r.order_id = o.id AND p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint
"""
_LISTED: Final = f"""
SELECT o.id::text, o.number, o.status, o.stock, o.email, o.customer_id::text, o.total, o.currency, o.created_at,
       o.paid_at, o.fulfilled_at, {_REFUNDED} AS refunded, o.correlation_id
  FROM orders o
 WHERE ($1::text IS NULL OR o.status = $1) AND ($2::text IS NULL OR lower(o.email) = lower($2))
   AND ($3::text IS NULL OR o.number = $3) AND ($4::uuid IS NULL OR o.customer_id = $4)
   AND ($5::timestamptz IS NULL OR o.created_at >= $5) AND ($6::timestamptz IS NULL OR o.created_at < $6)
   AND ($7::uuid IS NULL OR o.id < $7)
 ORDER BY o.id DESC LIMIT $8
"""
# Refunds of ours, whatever became of them, and those we only heard of.
_FACTS: Final = f"""
SELECT o.paid_at, o.fulfilled_at, o.carrier, o.tracking_number, o.tracking_url, {_REFUNDED} AS refunded,
       (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.recorded_at), '[]')
          FROM order_payments p WHERE p.order_id = o.id) AS payments,
       (SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.at, f.id), '[]')
          FROM (SELECT q.id::text, q.amount, q.currency, q.state, q.reason, q.actor, q.failure, q.created_at AS at
                  FROM refund_requests q WHERE q.order_id = o.id
                 UNION ALL
                SELECT r.refund_id, r.amount, r.currency,
                       CASE WHEN r.failed_at IS NULL THEN 'refunded' ELSE 'failed' END, '', 'payments', r.failure,
                       r.recorded_at
                  FROM order_refunds r
                 WHERE r.order_id = o.id
                   AND NOT EXISTS (SELECT FROM refund_requests q WHERE q.refund_id = r.refund_id)) AS f) AS refunds
  FROM orders o WHERE o.id = $1
"""


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order in a list; amounts in minor units of `currency`."""

    id: str
    number: str
    status: str
    stock: str
    email: str
    customer_id: str | None
    total: int
    currency: str
    created_at: datetime
    paid_at: datetime | None
    fulfilled_at: datetime | None
    refunded: int
    correlation_id: str


async def listed(connection: Connection, narrowed: Sequence[Any], after: str | None, limit: int) -> list[OrderRow]:
    """Up to `limit` orders, newest first, from behind the order `after`.

    `narrowed` holds status, address, number, customer, since and until; None does not narrow.
    """
    return [OrderRow(**row) for row in await connection.fetch(_LISTED, *narrowed, after, limit)]


async def facts(connection: Connection, order_id: str) -> Any:
    """What an order has beside its lines: its money, its shipment. A row, or None."""
    return await connection.fetchrow(_FACTS, order_id)
