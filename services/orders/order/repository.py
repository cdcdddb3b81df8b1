"""Every statement on orders."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from reliability import idempotency, jobs
from reliability.context import correlation_id
from reliability.errors import LeaseLost, NotFound
from reliability.idempotency import Claim
from reliability.jobs import Job, Offer
from reliability.postgres import Connection
from reliability.telemetry import carrier
from services.orders.order.domain import Actor, Order, OrderLine, OrderStatus, PaymentOutcome, StockState

__all__ = [
    "EXPIRE",
    "ORDERED",
    "SETTLE",
    "NewPayment",
    "Overdue",
    "Summary",
    "begin_ending",
    "cancel",
    "expire_overdue",
    "find",
    "find_payment",
    "fulfil",
    "get",
    "insert",
    "insert_at_once",
    "live_of_cart",
    "lock_with_cart",
    "note",
    "of_customer",
    "prepare_payment",
    "record_payment",
    "set_hold",
    "set_intent",
    "set_stock",
    "settled",
    "stop_ending",
    "summary",
    "take_payment",
]

ORDERED = "ordered"
"""The recovery point of a checkout whose order is written."""
_ONE_LIVE_PER_CART = "orders_one_live_per_cart"
SETTLE: Final = "settle_order"
"""Enqueued by the statement that takes a payment; its key is the order."""
EXPIRE: Final = "expire_order"
"""Enqueued by the statement that finds an order's time up; its key is the order."""
_HOPELESS_SECONDS: Final = 3600.0
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_NIL: Final = str(UUID(int=0))
_ORDER = """
SELECT o.id::text, o.number, o.cart_id::text, o.status, o.stock, o.email, o.shipping_address, o.shipping_method, o.note,
       o.currency, o.subtotal, o.discount, o.shipping, o.tax, o.total, o.hold_expires_at, o.payment_intent_id,
       o.client_secret, o.correlation_id, o.customer_id::text, o.created_at,
       o.coupon_code, o.shipping_tax, o.ending_reason, o.ending_actor, o.paid_at,
       (SELECT jsonb_agg(to_jsonb(l) - '{order_id,line_total}'::text[] ORDER BY l.title, l.variant_id)
          FROM order_lines l WHERE l.order_id = o.id) AS lines
  FROM orders o
"""
# `cart` has a row when the order may be written, with the id it is to have.
_PLACE = """
placed AS (
    INSERT INTO orders (id, cart_id, email, shipping_address, shipping_method, note, currency, subtotal, discount,
                        shipping, tax, total, hold_expires_at, correlation_id, customer_id, coupon_code, shipping_tax)
    SELECT order_id, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12 * interval '1 second', $13, $14, $15, $16
      FROM cart
    RETURNING id, number, created_at, hold_expires_at),
line AS (
    INSERT INTO order_lines (order_id, variant_id, sku, title, quantity, unit_price, line_total, category,
                             discount, tax, product_id)
    SELECT placed.id, l.variant_id, l.sku, l.title, l.quantity, l.unit_price, l.quantity * l.unit_price, l.category,
           l.discount, l.tax, l.product_id
      FROM placed, unnest($17::uuid[], $18::text[], $19::text[], $20::bigint[], $21::bigint[], $22::text[],
                          $23::bigint[], $24::bigint[], $25::uuid[])
           AS l (variant_id, sku, title, quantity, unit_price, category, discount, tax, product_id)),
event AS (
    INSERT INTO order_events (order_id, status, reason, correlation_id, actor)
    SELECT id, 'pending', 'checkout', $13, 'customer' FROM placed)
SELECT id::text, number, created_at, hold_expires_at FROM placed
"""
_INSERT = f"WITH cart AS (SELECT uuidv7() AS order_id), {_PLACE}"
# Another order of this cart makes `orders_one_live_per_cart` refuse all of it.
_PLACE_AT_ONCE = f"""
WITH seen AS MATERIALIZED (
    SELECT uuidv7() AS order_id FROM carts WHERE id = $1 AND state = 'open' AND xmin::text = $26 FOR UPDATE),
claimed AS ({idempotency.claiming(27, "seen", ORDERED, "jsonb_build_object('order_id', order_id)")}),
cart AS (SELECT order_id FROM seen WHERE EXISTS (SELECT FROM claimed)),
{_PLACE}
"""
# One statement each, for the way an order usually goes: they change nothing when it is not as they expect.
_PREPARED = f"""
WITH prepared AS (
    UPDATE orders SET hold_expires_at = $2, payment_intent_id = $3, client_secret = $4
     WHERE id = $1 AND status = 'pending' AND payment_intent_id IS NULL
    RETURNING id),
stored AS ({idempotency.storing(5, "EXISTS (SELECT FROM prepared)")})
SELECT (SELECT count(*) FROM prepared) AS prepared, (SELECT count(*) FROM stored) AS stored
"""
# The cart is closed with its order. When there is more in it than was ordered, it stays open with the rest, and the
# order gets a closed one of its own. What is put in while this waits for the cart's row makes it another version.
_TAKE_PAYMENT = f"""
WITH basket AS MATERIALIZED (
    SELECT c.id, c.xmin AS version, c.state = 'open' AND EXISTS (
               SELECT FROM cart_items i
                 LEFT JOIN order_lines l ON l.order_id = o.id AND l.variant_id = i.variant_id
                WHERE i.cart_id = c.id AND i.quantity > coalesce(l.quantity, 0)) AS more
      FROM orders o JOIN carts c ON c.id = o.cart_id WHERE o.id = $1),
seen AS MATERIALIZED (
    SELECT o.id, c.id AS cart_id, c.customer_id, o.coupon_code, basket.more,
           CASE WHEN basket.more THEN uuidv7() ELSE c.id END AS closed_id
      FROM orders o, carts c, basket
     WHERE o.id = $1 AND o.status = 'pending' AND o.total = $3 AND o.currency = $4
       AND c.id = o.cart_id AND c.id = basket.id AND c.xmin = basket.version
       FOR UPDATE OF o, c),
closed AS (INSERT INTO carts (id, state, customer_id) SELECT closed_id, 'ordered', customer_id FROM seen WHERE more),
cart AS (
    UPDATE carts SET state = CASE WHEN seen.more THEN carts.state ELSE 'ordered' END, updated_at = now(),
                     coupon_id = CASE WHEN seen.more AND seen.coupon_code = (
                         SELECT k.code FROM coupons k WHERE k.id = carts.coupon_id) THEN NULL ELSE carts.coupon_id END
      FROM seen WHERE carts.id = seen.cart_id),
bought AS (
    DELETE FROM cart_items i USING seen, order_lines l
     WHERE seen.more AND i.cart_id = seen.cart_id AND l.order_id = seen.id AND l.variant_id = i.variant_id
       AND i.quantity <= l.quantity),
fewer AS (
    UPDATE cart_items i SET quantity = i.quantity - l.quantity FROM seen, order_lines l
     WHERE seen.more AND i.cart_id = seen.cart_id AND l.order_id = seen.id AND l.variant_id = i.variant_id
       AND i.quantity > l.quantity),
paid AS (
    UPDATE orders SET status = 'paid', paid_at = now(), cart_id = seen.closed_id FROM seen WHERE orders.id = seen.id
    RETURNING orders.id, orders.correlation_id),
payment AS (
    INSERT INTO order_payments (payment_intent_id, order_id, amount, currency, outcome)
    SELECT $2, id, $3, $4, 'applied' FROM paid),
event AS (
    INSERT INTO order_events (order_id, status, reason, correlation_id, actor)
    SELECT id, 'paid', 'payment arrived', correlation_id, 'payments' FROM paid),
job AS ({
    jobs.enqueueing(
        "paid",
        SETTLE,
        "jsonb_build_object('order_id', id)",
        unique_key="id::text",
        correlation="correlation_id",
        trace="$5::jsonb",
        lease="$6",
    )
})
SELECT correlation_id, (SELECT to_jsonb(job) FROM job) AS job FROM paid
"""
_SETTLED = f"""
WITH done AS ({jobs.completing("$2", "$3")}),
stocked AS (
    UPDATE orders SET stock = 'committed' WHERE id = $1 AND stock = 'held' AND EXISTS (SELECT FROM done)),
noted AS (
    INSERT INTO order_events (order_id, status, reason, correlation_id, actor)
    SELECT $1::uuid, $4, $5, $6, 'orders' FROM done)
SELECT count(*) FROM done
"""
# A batch, from behind the last order of the one before: so each is looked at once, whether it has its job or not.
_EXPIRE_OVERDUE = f"""
WITH overdue AS MATERIALIZED (
    SELECT id, correlation_id, hold_expires_at FROM orders
     WHERE status = 'pending' AND hold_expires_at <= now()
       AND (hold_expires_at, id) > ($2::timestamptz, $3::uuid)
     ORDER BY hold_expires_at, id LIMIT $4),
job AS ({
    jobs.enqueueing(
        "overdue",
        EXPIRE,
        "jsonb_build_object('order_id', id)",
        unique_key="id::text",
        correlation="correlation_id",
        trace="$1::jsonb",
        max_attempts=1000,
    )
} RETURNING id),
again AS ({jobs.redriving("overdue", EXPIRE, unique_key="overdue.id::text", seconds=_HOPELESS_SECONDS)})
SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM again) AS enqueued, hold_expires_at, id::text
  FROM overdue ORDER BY hold_expires_at DESC, overdue.id DESC LIMIT 1
"""
_NOTE = "INSERT INTO order_events (order_id, status, reason, correlation_id, actor) VALUES ($1, $2, $3, $4, $5)"
_SUMMARY = """
SELECT (SELECT count(*) FROM orders WHERE created_at >= $1) AS orders,
       (SELECT count(*) FROM orders WHERE status = 'pending') AS pending,
       (SELECT count(*) FROM jobs WHERE state = 'parked') AS dead_letters,
       (SELECT coalesce(jsonb_object_agg(currency, amount), '{}')
          FROM (SELECT currency, sum(total) AS amount FROM orders
                 WHERE paid_at >= $1 AND status <> 'refunded' GROUP BY currency) AS paid) AS revenue
"""


@dataclass(frozen=True, slots=True)
class NewPayment:
    """Money that arrived."""

    payment_intent_id: str
    order_id: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A batch of orders whose time is up: for how many there is a job now, and the last; without any, before them."""

    enqueued: int = 0
    until: datetime = _LONG_AGO
    order_id: str = _NIL


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures for the dashboard."""

    orders: int
    pending: int
    dead_letters: int
    revenue: dict[str, int]


def _order(row: "asyncpg.Record") -> Order:
    fields = dict(row)
    fields["status"] = OrderStatus(fields["status"])
    fields["stock"] = StockState(fields["stock"])
    fields["lines"] = tuple(OrderLine(**line) for line in fields["lines"])
    return Order(**fields)


async def find(connection: Connection, order_id: str, *, lock: bool = False) -> Order | None:
    """An order by id; with `lock`, nobody else changes it until the transaction ends."""
    row = await connection.fetchrow(f"{_ORDER} WHERE o.id = $1{' FOR UPDATE OF o' if lock else ''}", order_id)
    return _order(row) if row else None


async def get(connection: Connection, order_id: str) -> Order:
    """An order that must be there. Raises `NotFound`."""
    order = await find(connection, order_id)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    return order


async def live_of_cart(connection: Connection, cart_id: str) -> Order | None:
    """The cart's order that is not cancelled; there is one at most."""
    row = await connection.fetchrow(f"{_ORDER} WHERE o.cart_id = $1 AND o.status <> 'cancelled'", cart_id)
    return _order(row) if row else None


async def expire_overdue(connection: Connection, after: Overdue, limit: int) -> Overdue | None:
    """Enqueues the end of pending orders whose time is up, `limit` at most, from behind those of `after`.

    None when there are none. An order has one such job; one that is a dead letter for an hour is tried again.
    """
    row = await connection.fetchrow(_EXPIRE_OVERDUE, carrier(), after.until, after.order_id, limit)
    if row is None:
        return None
    if row["enqueued"]:
        jobs.wake()
    return Overdue(row["enqueued"], row["hold_expires_at"], row["id"])


async def of_customer(connection: Connection, customer_id: str, after: str | None, limit: int) -> list[Order]:
    """Up to `limit` orders of a customer, newest first, from behind the order `after`."""
    rows = await connection.fetch(
        f"{_ORDER} WHERE o.customer_id = $1 AND ($2::uuid IS NULL OR o.id < $2) ORDER BY o.id DESC LIMIT $3",
        customer_id,
        after,
        limit,
    )
    return [_order(row) for row in rows]


async def insert(connection: Connection, order: Order, ttl_seconds: int) -> Order:
    """Places a new order, whose time is up after `ttl_seconds`.

    What the database gives it (`id`, `number` and two instants) is in the answer.
    """
    order = _sorted(order)
    row = await connection.fetchrow(_INSERT, *_placed(order, ttl_seconds))
    assert row is not None  # inserted, or an error
    return replace(order, **row)


async def insert_at_once(
    connection: Connection, order: Order, ttl_seconds: int, version: str, claim: Claim, lease_seconds: float
) -> Order | None:
    """Places a new order as `insert` does and claims its key, in one statement.

    None, with nothing changed, when the cart is not in this `version` any more, has an order, or the key was used.
    """
    order = _sorted(order)
    values = (*_placed(order, ttl_seconds), version, *claim.claimed(lease_seconds=lease_seconds))
    try:
        row = await connection.fetchrow(_PLACE_AT_ONCE, *values)
    except asyncpg.DeadlockDetectedError:  # the cart's order is being paid, which has its row and wants the cart's
        return None
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _ONE_LIVE_PER_CART:
            raise
        return None
    if row is None:
        return None
    claim.recovery_point, claim.data = ORDERED, {"order_id": row["id"]}
    return replace(order, **row)


def _sorted(order: Order) -> Order:
    """With its lines as they are read again."""
    return replace(order, lines=tuple(sorted(order.lines, key=lambda line: (line.title, line.variant_id))))


def _placed(order: Order, ttl_seconds: int) -> tuple[object, ...]:
    lines = order.lines
    return (
        order.cart_id,
        order.email,
        order.shipping_address,
        order.shipping_method,
        order.note,
        order.currency,
        order.subtotal,
        order.discount,
        order.shipping,
        order.tax,
        order.total,
        ttl_seconds,
        order.correlation_id,
        order.customer_id,
        order.coupon_code,
        order.shipping_tax,
        [line.variant_id for line in lines],
        [line.sku for line in lines],
        [line.title for line in lines],
        [line.quantity for line in lines],
        [line.unit_price for line in lines],
        [line.category for line in lines],
        [line.discount for line in lines],
        [line.tax for line in lines],
        [line.product_id for line in lines],
    )


async def prepare_payment(connection: Connection, order: Order, claim: Claim, status: int, answer: object) -> bool:
    """Records hold and intent of an order that waits for its money, and the answer to its checkout, in one statement.

    False, with nothing changed, when the order is further than that. Raises `LeaseLost`.
    """
    row = await connection.fetchrow(
        _PREPARED,
        order.id,
        order.hold_expires_at,
        order.payment_intent_id,
        order.client_secret,
        *claim.stored(status, answer),
    )
    assert row is not None  # a SELECT without FROM has one row
    if row["prepared"] and not row["stored"]:
        raise LeaseLost
    return bool(row["prepared"])


async def take_payment(connection: Connection, payment: NewPayment, offer: Offer) -> str | None:
    """Takes the money an order waits for: payment, status, timeline, cart and the job that settles the order.

    What is in the cart beyond what was ordered stays in it.

    The order's correlation id; None, with nothing changed, when it is not that money, the order does not wait, or
    somebody was at the cart meanwhile and `lock_with_cart` did not keep them away.
    """
    taken = await connection.fetchrow(
        _TAKE_PAYMENT,
        payment.order_id,
        payment.payment_intent_id,
        payment.amount,
        payment.currency,
        carrier(),
        offer.lease,
    )
    if taken is None:
        return None
    offer.accept(taken["job"])
    return str(taken["correlation_id"])


async def lock_with_cart(connection: Connection, order_id: str) -> None:
    """Nobody else changes an order and its cart until the transaction ends."""
    await connection.execute(
        "SELECT FROM orders o JOIN carts c ON c.id = o.cart_id WHERE o.id = $1 FOR UPDATE OF o, c", order_id
    )


async def settled(connection: Connection, order: Order, job: Job) -> None:
    """Notes that the stock was taken and the confirmation handed over, and ends `job`. Raises `LeaseLost`."""
    done = await connection.fetchval(
        _SETTLED, order.id, job.id, job.fence, order.status, "confirmation handed over", correlation_id()
    )
    job.settled(ours=bool(done))


async def note(
    connection: Connection, order_id: str, status: OrderStatus, reason: str, actor: str = Actor.ORDERS
) -> None:
    """Adds to the timeline."""
    await connection.execute(_NOTE, order_id, status, reason, correlation_id(), actor)


async def set_intent(connection: Connection, order_id: str, payment_intent_id: str, client_secret: str) -> None:
    """Records the payment intent of an order; recording it again changes nothing."""
    await connection.execute(
        "UPDATE orders SET payment_intent_id = $2, client_secret = $3 WHERE id = $1 AND payment_intent_id IS NULL",
        order_id,
        payment_intent_id,
        client_secret,
    )


async def set_hold(connection: Connection, order_id: str, expires_at: datetime) -> None:
    """Records until when the stock is promised."""
    await connection.execute("UPDATE orders SET hold_expires_at = $2 WHERE id = $1", order_id, expires_at)


async def set_stock(connection: Connection, order_id: str, stock: StockState) -> None:
    """Records what became of stock that was held; what is known of it already stays."""
    await connection.execute("UPDATE orders SET stock = $2 WHERE id = $1 AND stock = 'held'", order_id, stock)


async def begin_ending(connection: Connection, order_id: str, reason: str, actor: str) -> None:
    """Notes that the payment provider is being asked to end a pending order; the first reason stands."""
    await connection.execute(
        """
        UPDATE orders SET ending_reason = $2, ending_actor = $3
         WHERE id = $1 AND status = 'pending' AND ending_reason IS NULL
        """,
        order_id,
        reason,
        actor,
    )


async def stop_ending(connection: Connection, order_id: str) -> None:
    """The payment provider said no: the order goes on."""
    await connection.execute(
        "UPDATE orders SET ending_reason = NULL, ending_actor = NULL WHERE id = $1 AND ending_reason IS NOT NULL",
        order_id,
    )


async def cancel(connection: Connection, order_id: str, reason: str, actor: str) -> bool:
    """Pending to cancelled; False when it was not pending."""
    status = await connection.execute(
        "UPDATE orders SET status = 'cancelled', stock = 'released' WHERE id = $1 AND status = 'pending'", order_id
    )
    if status != "UPDATE 1":
        return False
    await note(connection, order_id, OrderStatus.CANCELLED, reason, actor)
    return True


async def fulfil(
    connection: Connection, order_id: str, carrier: str | None, tracking_number: str | None, tracking_url: str | None
) -> datetime | None:
    """Notes that an order was handed to a carrier; when, or None when it was before or cannot be."""
    at: datetime | None = await connection.fetchval(
        """
        UPDATE orders
           SET fulfilled_at = now(), carrier = $2, tracking_number = $3, tracking_url = $4,
               status = CASE status WHEN 'paid' THEN 'fulfilled' ELSE status END
         WHERE id = $1 AND fulfilled_at IS NULL AND stock = 'committed' AND status IN ('paid', 'partially_refunded')
        RETURNING fulfilled_at
        """,
        order_id,
        carrier,
        tracking_number,
        tracking_url,
    )
    return at


async def find_payment(connection: Connection, payment_intent_id: str) -> PaymentOutcome | None:
    """What was made of a payment; None when it was not recorded yet."""
    outcome = await connection.fetchval(
        "SELECT outcome FROM order_payments WHERE payment_intent_id = $1", payment_intent_id
    )
    return PaymentOutcome(outcome) if outcome else None


async def record_payment(connection: Connection, payment: NewPayment, outcome: PaymentOutcome) -> None:
    """Records money and what was made of it; unique by payment intent."""
    await connection.execute(
        """
        INSERT INTO order_payments (payment_intent_id, order_id, amount, currency, outcome) VALUES ($1, $2, $3, $4, $5)
        """,
        payment.payment_intent_id,
        payment.order_id,
        payment.amount,
        payment.currency,
        outcome,
    )


async def summary(connection: Connection, since: datetime) -> Summary:
    """Figures of the orders placed at or after `since`, and of what waits now."""
    row = await connection.fetchrow(_SUMMARY, since)
    assert row is not None  # a SELECT without FROM has one row
    return Summary(**row)
