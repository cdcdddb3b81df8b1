"""Every statement on a customer's orders together; single ones are the order's own."""

from typing import Any, Final

from reliability.postgres import Connection
from services.orders.history.domain import Month, Spending
from services.orders.order.domain import Event

__all__ = ["spending", "timeline"]

_SPENDING: Final = """
WITH spent AS (
    SELECT o.id, to_char(o.paid_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
           o.total - coalesce((SELECT sum(r.amount)
                                 FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
                                WHERE r.order_id = o.id AND p.outcome = 'applied' AND r.failed_at IS NULL), 0) AS amount
      FROM orders o
     WHERE o.customer_id = $1 AND o.currency = $2 AND o.paid_at IS NOT NULL AND o.status <> 'refunded'),
months AS (SELECT month, sum(amount)::bigint AS spent, count(*) AS orders FROM spent GROUP BY month),
goods AS (
    SELECT l.category, sum(l.line_total - l.discount)::bigint AS amount
      FROM spent JOIN order_lines l ON l.order_id = spent.id GROUP BY l.category)
SELECT (SELECT coalesce(sum(amount), 0)::bigint FROM spent) AS lifetime,
       (SELECT count(*) FROM spent) AS orders,
       (SELECT coalesce(jsonb_agg(to_jsonb(months) ORDER BY month DESC), '[]') FROM months) AS by_month,
       (SELECT coalesce(jsonb_object_agg(category, amount), '{}') FROM goods) AS by_category
"""


async def timeline(connection: Connection, order_id: str) -> list[Event]:
    """What happened to an order, oldest first."""
    rows = await connection.fetch(
        "SELECT status, reason, actor, correlation_id, at FROM order_events WHERE order_id = $1 ORDER BY id", order_id
    )
    return [Event(**row) for row in rows]


async def spending(connection: Connection, customer_id: str, currency: str) -> Spending:
    """Of one customer in one currency. One statement."""
    row: Any = await connection.fetchrow(_SPENDING, customer_id, currency)
    months = tuple(Month(**month) for month in row["by_month"])
    return Spending(currency, row["lifetime"], row["orders"], months, row["by_category"])
