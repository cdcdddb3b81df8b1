"""Every statement on refunds as orders sees them: what payments told us, and what it makes of the order."""

from typing import Any, Final

from reliability.postgres import Connection
from services.orders.order import repository as orders
from services.orders.order.domain import Actor, OrderStatus
from services.orders.refund.domain import NewRefund, RefundRequest, RequestState

__all__ = [
    "find_request",
    "insert_request",
    "is_of_unusable_payment",
    "record",
    "record_failed",
    "refundable",
    "refunded",
    "settle",
    "settle_request",
]

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
# What is on its way counts as gone.
_REFUNDABLE: Final = """
SELECT p.payment_intent_id, p.currency,
       p.amount - coalesce((SELECT sum(r.amount) FROM order_refunds r
                             WHERE r.payment_intent_id = p.payment_intent_id AND r.failed_at IS NULL), 0)::bigint
                - coalesce((SELECT sum(q.amount) FROM refund_requests q
                             WHERE q.payment_intent_id = p.payment_intent_id AND q.state = 'asked'), 0)::bigint
       AS amount
  FROM order_payments p WHERE p.order_id = $1 AND p.outcome = 'applied'
"""
_SETTLE_REQUEST: Final = """
UPDATE refund_requests SET state = $2, refund_id = coalesce($3, refund_id), failure = $4
 WHERE id = $1 AND (state = 'asked' OR (state = 'refunded' AND $2 = 'failed'))
"""
_REQUEST: Final = """
SELECT id::text, order_id::text, payment_intent_id, amount, currency, reason, actor, state, failure, created_at
  FROM refund_requests WHERE id = $1
"""
_SETTLE: Final = """
UPDATE orders SET status = CASE WHEN $2 >= total THEN 'refunded' WHEN $2 > 0 THEN 'partially_refunded'
                                WHEN fulfilled_at IS NOT NULL THEN 'fulfilled' ELSE 'paid' END
 WHERE id = $1 AND paid_at IS NOT NULL
RETURNING status
"""


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


async def refundable(connection: Connection, order_id: str) -> tuple[str, int, str] | None:
    """The payment that paid an order, what of it can still go back, and its currency; None when nothing came.

    The caller holds the order's lock.
    """
    row = await connection.fetchrow(_REFUNDABLE, order_id)
    return (row["payment_intent_id"], row["amount"], row["currency"]) if row else None


async def insert_request(
    connection: Connection, order_id: str, payment_intent_id: str, amount: int, currency: str, reason: str, actor: str
) -> str:
    """Writes down what is to go back; its id. The caller holds the order's lock and has looked."""
    return str(
        await connection.fetchval(
            """
            INSERT INTO refund_requests (order_id, payment_intent_id, amount, currency, reason, actor)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
            """,
            order_id,
            payment_intent_id,
            amount,
            currency,
            reason,
            actor,
        )
    )


async def find_request(connection: Connection, request_id: str) -> RefundRequest | None:
    """A request by id."""
    row = await connection.fetchrow(_REQUEST, request_id)
    return RefundRequest(**{**row, "state": RequestState(row["state"])}) if row else None


async def settle_request(
    connection: Connection, request_id: str, state: RequestState, refund_id: str | None, failure: str | None
) -> None:
    """Records what became of a request. What has failed stays failed, whatever is heard late."""
    await connection.execute(_SETTLE_REQUEST, request_id, state, refund_id, failure)


async def is_of_unusable_payment(connection: Connection, refund_id: str) -> bool:
    """Whether a recorded refund gave back money that its order could not use."""
    return bool(
        await connection.fetchval(
            """
            SELECT EXISTS (SELECT FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
                            WHERE r.refund_id = $1 AND p.outcome = 'refund')
            """,
            refund_id,
        )
    )
