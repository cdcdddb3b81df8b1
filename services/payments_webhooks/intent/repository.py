"""Every statement on payments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from reliability.inbox import Change, Known
from reliability.postgres import Connection
from services.payments_webhooks.intent.domain import Kind, Payment, PaymentState

__all__ = [
    "NewPayment",
    "by_intent",
    "by_intents",
    "by_order",
    "by_session",
    "find",
    "insert",
    "insert_cancelled",
    "insert_stray",
    "live_unchecked",
    "lock_order",
    "next_key",
    "of_event",
    "recorded",
    "set_checked",
    "set_intent",
    "set_session",
    "set_state",
    "set_successor",
    "take",
]

_COLUMNS = """
id::text, order_id::text, attempt, amount, currency, email, state, stripe_key, payment_intent_id, client_secret,
correlation_id, created_at, kind, session_id, session_url, title, return_path, successor
"""


def _payment(row: "asyncpg.Record | Mapping[str, Any] | None") -> Payment | None:
    if row is None:
        return None
    successor = Kind(row["successor"]) if row["successor"] else None
    return Payment(**{**row, "state": PaymentState(row["state"]), "kind": Kind(row["kind"]), "successor": successor})


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A payment to make; amount in minor units."""

    order_id: str
    amount: int
    currency: str
    email: str
    kind: Kind = Kind.INTENT
    title: str = ""
    return_path: str = "/"


async def lock_order(connection: Connection, order_id: str) -> None:
    """Until the transaction ends nobody else makes, replaces or closes payments of this order."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('payment:' || $1, 0))", order_id)


async def insert(connection: Connection, new: NewPayment, attempt: int, correlation_id: str) -> Payment:
    """The payment of (order, attempt), made if it was not there."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO payments (order_id, attempt, amount, currency, email, kind, title, return_path, correlation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (order_id, attempt) DO NOTHING RETURNING {_COLUMNS}
        """,
        new.order_id,
        attempt,
        new.amount,
        new.currency,
        new.email,
        new.kind,
        new.title,
        new.return_path,
        correlation_id,
    )
    row = row or await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM payments WHERE order_id = $1 AND attempt = $2", new.order_id, attempt
    )
    payment = _payment(row)
    assert payment is not None  # there before, or inserted above
    return payment


async def insert_cancelled(connection: Connection, order_id: str, correlation_id: str) -> None:
    """A tombstone: an order that was cancelled before it had a payment never gets one."""
    await connection.execute(
        """
        INSERT INTO payments (order_id, attempt, amount, currency, email, state, correlation_id)
        VALUES ($1, 1, 0, 'XXX', '', 'canceled', $2) ON CONFLICT (order_id, attempt) DO NOTHING
        """,
        order_id,
        correlation_id,
    )


async def insert_stray(
    connection: Connection, payment: Payment, intent_id: str, client_secret: str, amount: int
) -> Payment:
    """Another intent that was paid for `payment`, as a payment of its own; made if it was not there."""
    # Two of them at once would take the same number: the payment's lock lets one after the other.
    await connection.execute("SELECT FROM payments WHERE id = $1 FOR UPDATE", payment.id)
    await connection.execute(
        """
        INSERT INTO payments (order_id, attempt, amount, currency, email, state, payment_intent_id, client_secret,
                              correlation_id, stray)
        SELECT order_id, (SELECT max(attempt) + 1 FROM payments WHERE order_id = $2), $5, currency, email, 'succeeded',
               $3, $4, correlation_id, true
          FROM payments WHERE id = $1
            ON CONFLICT (payment_intent_id) DO NOTHING
        """,
        payment.id,
        payment.order_id,
        intent_id,
        client_secret,
        amount,
    )
    stray = await by_intent(connection, intent_id)
    assert stray is not None  # there before, or inserted above
    return stray


async def find(connection: Connection, payment_id: str, *, lock: bool = False) -> Payment | None:
    """A payment by our id."""
    suffix = " FOR UPDATE" if lock else ""
    return _payment(await connection.fetchrow(f"SELECT {_COLUMNS} FROM payments WHERE id = $1{suffix}", payment_id))


async def by_order(connection: Connection, order_id: str) -> Payment | None:
    """The newest payment of an order."""
    return _payment(
        await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM payments WHERE order_id = $1 AND NOT stray ORDER BY attempt DESC LIMIT 1", order_id
        )
    )


async def by_intent(connection: Connection, intent_id: str, *, lock: bool = False) -> Payment | None:
    """The payment that Stripe knows as `intent_id`."""
    suffix = " FOR UPDATE" if lock else ""
    return _payment(
        await connection.fetchrow(f"SELECT {_COLUMNS} FROM payments WHERE payment_intent_id = $1{suffix}", intent_id)
    )


async def of_event(connection: Connection, inbox_id: int) -> tuple[bytes, Payment | None]:
    """The body of a received event, and the payment of the intent it is about. Raises `LookupError` for none."""
    row = await connection.fetchrow(
        f"""
        SELECT body, {_COLUMNS}
          FROM (SELECT body, object_key FROM inbox WHERE id = $1) AS event
          LEFT JOIN payments ON payment_intent_id = object_key
        """,
        inbox_id,
    )
    if row is None:
        message = f"inbox row {inbox_id} is gone"
        raise LookupError(message)
    payment = dict(row)
    body: bytes = payment.pop("body")
    return body, _payment(payment) if payment["id"] else None


async def by_intents(connection: Connection, intent_ids: Sequence[str]) -> list[Payment]:
    """The payments that Stripe knows under these names."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM payments WHERE payment_intent_id = ANY($1::text[])", list(intent_ids)
    )
    return [payment for row in rows if (payment := _payment(row))]


async def live_unchecked(connection: Connection, limit: int, older_than: timedelta) -> list[Payment]:
    """Payments that may still be paid or ended and were not compared with Stripe for so long; longest first."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM payments
         WHERE state IN ('open', 'processing') AND created_at < now() - $2::interval
           AND (checked_at IS NULL OR checked_at < now() - $2::interval)
         ORDER BY checked_at NULLS FIRST, id LIMIT $1
        """,
        limit,
        older_than,
    )
    return [payment for row in rows if (payment := _payment(row))]


async def set_checked(connection: Connection, payment_ids: Sequence[str]) -> None:
    """Notes that payments were compared with Stripe."""
    await connection.execute("UPDATE payments SET checked_at = now() WHERE id = ANY($1::uuid[])", list(payment_ids))


async def by_session(connection: Connection, session_id: str) -> Payment | None:
    """The payment whose page Stripe knows as `session_id`."""
    return _payment(await connection.fetchrow(f"SELECT {_COLUMNS} FROM payments WHERE session_id = $1", session_id))


async def set_session(connection: Connection, payment_id: str, session_id: str, url: str) -> Payment | None:
    """Records the page Stripe made; `creating` becomes `open`, any later state stays. None when there was one."""
    return _payment(
        await connection.fetchrow(
            f"""
            UPDATE payments
               SET session_id = $2, session_url = $3, updated_at = now(),
                   state = CASE WHEN state = 'creating' THEN 'open' ELSE state END
             WHERE id = $1 AND session_id IS NULL
            RETURNING {_COLUMNS}
            """,
            payment_id,
            session_id,
            url,
        )
    )


async def set_successor(connection: Connection, payment_id: str, successor: Kind | None) -> None:
    """Says what is to come after a payment, or that nothing is."""
    await connection.execute(
        "UPDATE payments SET successor = $2, updated_at = now() WHERE id = $1", payment_id, successor
    )


async def set_intent(
    connection: Connection, payment_id: str, intent_id: str, client_secret: str | None
) -> Payment | None:
    """Records the intent Stripe made; `creating` becomes `open`, any later state stays. None when it has another."""
    return _payment(
        await connection.fetchrow(
            f"""
            UPDATE payments
               SET payment_intent_id = $2, client_secret = coalesce($3, client_secret), updated_at = now(),
                   state = CASE WHEN state = 'creating' THEN 'open' ELSE state END
             WHERE id = $1 AND (payment_intent_id IS NULL OR payment_intent_id = $2)
            RETURNING {_COLUMNS}
            """,
            payment_id,
            intent_id,
            client_secret,
        )
    )


async def next_key(connection: Connection, payment: Payment) -> None:
    """Gives up a key of Stripe's; concurrent losers give up the same one."""
    await connection.execute(
        "UPDATE payments SET stripe_key = stripe_key + 1, updated_at = now() WHERE id = $1 AND stripe_key = $2",
        payment.id,
        payment.stripe_key,
    )


async def set_state(connection: Connection, payment_id: str, state: PaymentState) -> None:
    """Moves a payment on. `succeeded` and `canceled` are final: a late event cannot take them back."""
    await connection.execute(
        "UPDATE payments SET state = $2, updated_at = now() WHERE id = $1 AND state NOT IN ('succeeded', 'canceled')",
        payment_id,
        state,
    )


def take(payment_id: str, intent_id: str, client_secret: str | None, state: PaymentState | None = None) -> Change:
    """What `set_intent` and `set_state` do, as the effect of an event."""
    return Change(
        """
        UPDATE payments
           SET payment_intent_id = $7, client_secret = coalesce($8, client_secret), updated_at = now(),
               state = CASE WHEN state IN ('succeeded', 'canceled') THEN state
                            WHEN state = 'creating' THEN coalesce($9, 'open')
                            ELSE coalesce($9, state) END
         WHERE id = $6 AND (payment_intent_id IS NULL OR payment_intent_id = $7) AND EXISTS (SELECT FROM done)
        """,
        (payment_id, intent_id, client_secret, state),
    )


def recorded(intent_id: str, states: Sequence[PaymentState]) -> Known:
    """That an intent is a payment of ours which has come to one of these states. None of them may be left for others.

    A payment keeps its intent for good.
    """
    return Known(
        """
        EXISTS (SELECT FROM payments
                 WHERE payment_intent_id = $9 AND client_secret IS NOT NULL AND state = ANY($10::text[]))
        """,
        (intent_id, states),
    )
