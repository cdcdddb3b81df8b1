"""Every statement on refunds as orders sees them: what payments told us, and what it makes of the order."""

from dataclasses import dataclass
from typing import Any, Final

from reliability.postgres import Connection
from services.orders.order import repository as orders
from services.orders.order.domain import Actor, OrderStatus

__all__ = ["NewRefund", "record", "record_failed", "refunded", "settle"]

_RECORD: Final = """
INSERT INTO order_refunds (refund_id, order_id, amount, currency, payment_intent_id)
VALUES ($1, $2, $3, $4, coalesce(nullif($5, ''), (SELECT payment_intent_id FROM order_payments
                                                   WHERE order_id = $2 AND outcome = 'applied')))
    ON CONFLICT (refund_id) DO NOTHING
"""
_FAILED: Final = """
INSERT INTO order_refunds AS r (refund_id, order_id, amount, currency, failed_at, failure)
VALUES ($1, $2, $3, $4, now(), $5)
    ON CONFLICT (refund_id) DO UPDATE SET failed_at = now(), failure = excluded.failure WHERE r.failed_at IS NULL
"""
# Money that came twice and went back once is no refund of the order.
_REFUNDED: Final = """
SELECT coalesce(sum(r.amount), 0)::bigint
  FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
 WHERE r.order_id = $1 AND p.outcome = 'applied' AND r.failed_at IS NULL
"""
_SETTLE: Final = """
UPDATE orders SET status = CASE WHEN $2 >= total THEN 'refunded' WHEN $2 > 0 THEN 'partially_refunded'
                                WHEN fulfilled_at IS NOT NULL THEN 'fulfilled' ELSE 'paid' END
 WHERE id = $1 AND paid_at IS NOT NULL
RETURNING status
"""


@dataclass(frozen=True, slots=True)
class NewRefund:
    """Money that went back, in minor units."""

    refund_id: str
    order_id: str
    amount: int
    currency: str
    payment_intent_id: str = ""


async def record(connection: Connection, refund: NewRefund) -> bool:
    """Records money that went back; False when this refund was recorded before, or has failed since."""
    status = await connection.execute(
        _RECORD, refund.refund_id, refund.order_id, refund.amount, refund.currency, refund.payment_intent_id
    )
    return status == "INSERT 0 1"


async def record_failed(connection: Connection, refund: NewRefund, reason: str) -> bool:
    """Takes a refund back, known or not; False when that was done before."""
    status = await connection.execute(
        _FAILED, refund.refund_id, refund.order_id, refund.amount, refund.currency, reason
    )
    return status == "INSERT 0 1"


async def refunded(connection: Connection, order_id: str) -> int:
    """What of the money that paid an order has gone back, in minor units."""
    return int(await connection.fetchval(_REFUNDED, order_id))


async def settle(connection: Connection, order_id: str, before: OrderStatus, reason: str) -> None:
    """Lets the order's status follow from its refunds. The caller holds the order's lock."""
    row: Any = await connection.fetchrow(_SETTLE, order_id, await refunded(connection, order_id))
    after = OrderStatus(row["status"]) if row else before
    await orders.note(connection, order_id, after, reason, Actor.PAYMENTS)
