"""Every statement on what campaigns may go by."""

from typing import Final

from reliability.postgres import Connection
from services.orders.audience.domain import Refunded

__all__ = ["refunded"]

# Money that came twice and went back once is no refund of the order. A refund is heard of when it went back, and once
# more if it failed.
_REFUNDED: Final = """
SELECT o.id::text AS order_id, o.currency, gone.refunded, gone.refunds_known
  FROM orders o,
       LATERAL (SELECT coalesce(sum(r.amount) FILTER (WHERE p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint
                           AS refunded,
                       count(r.refund_id) + count(r.failed_at) AS refunds_known
                  FROM order_refunds r LEFT JOIN order_payments p USING (payment_intent_id)
                 WHERE r.order_id = o.id) AS gone
 WHERE o.id = $1 AND o.paid_at IS NOT NULL
"""


async def refunded(connection: Connection, order_id: str) -> Refunded | None:
    """What became of an order's money; None while there is none."""
    row = await connection.fetchrow(_REFUNDED, order_id)
    return Refunded(**row) if row else None
