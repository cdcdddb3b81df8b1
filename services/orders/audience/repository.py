"""Every statement on what campaigns may go by."""

from typing import Final

from reliability.postgres import Connection
from services.orders.audience.domain import Purchase

__all__ = ["purchase"]

# Money that came twice and went back once is no refund of the order. A refund is heard of when it went back, and once
# more if it failed.
_PURCHASE: Final = """
SELECT o.id::text AS order_id, o.customer_id::text, o.email, o.total, o.currency, o.paid_at,
       ARRAY(SELECT DISTINCT product_id::text FROM order_lines
              WHERE order_id = o.id AND product_id IS NOT NULL ORDER BY 1) AS product_ids,
       gone.refunded, gone.refunds_known
  FROM orders o,
       LATERAL (SELECT coalesce(sum(r.amount) FILTER (WHERE p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint
                           AS refunded,
                       count(r.refund_id) + count(r.failed_at) AS refunds_known
                  FROM order_refunds r LEFT JOIN order_payments p USING (payment_intent_id)
                 WHERE r.order_id = o.id) AS gone
 WHERE o.id = $1 AND o.paid_at IS NOT NULL
"""


async def purchase(connection: Connection, order_id: str) -> Purchase | None:
    """What became of an order's money; None while there is none."""
    row = await connection.fetchrow(_PURCHASE, order_id)
    return Purchase(**{**row, "product_ids": tuple(row["product_ids"])}) if row else None
