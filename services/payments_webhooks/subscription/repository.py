"""Every statement on subscriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from reliability.postgres import Connection
from services.payments_webhooks.subscription.domain import Invoice, Plan, Subscription, SubscriptionState, Told

__all__ = [
    "NewSubscription",
    "begin",
    "by_stripe_id",
    "find",
    "find_invoice",
    "keep_invoice",
    "live_unchecked",
    "next_key",
    "page",
    "refuse",
    "set_checked",
    "take",
]

_COLUMNS = """
id::text, account_id::text, customer_id, customer_name, email, plan, title, price_id, amount, currency, every,
every_count, payment_method_id, state, stripe_key, stripe_id, cancel_at_period_end, current_period_end, ended_at,
version, correlation_id, created_at
"""
_INVOICE = """
id, subscription_id::text, reason, amount_due, amount_paid, currency, status, attempts, next_attempt_at, made_at
"""


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """Who wants what, charged to which card."""

    account_id: str
    customer_id: str
    customer_name: str
    email: str
    plan: Plan
    payment_method_id: str | None


def _subscription(row: "asyncpg.Record | None") -> Subscription | None:
    return Subscription(**{**row, "state": SubscriptionState(row["state"])}) if row else None


async def begin(connection: Connection, new: NewSubscription, correlation_id: str) -> tuple[Subscription, bool]:
    """The account's live subscription to a plan, and whether it was made by this call."""
    row = await connection.fetchrow(
        f"""
        INSERT INTO subscriptions (account_id, customer_id, customer_name, email, plan, title, price_id, amount,
                                   currency, every, every_count, payment_method_id, correlation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT (account_id, plan) WHERE state NOT IN ('refused', 'incomplete_expired', 'canceled')
            DO UPDATE SET plan = excluded.plan
        RETURNING {_COLUMNS}, xmax = 0 AS fresh
        """,
        new.account_id,
        new.customer_id,
        new.customer_name,
        new.email,
        new.plan.name,
        new.plan.title,
        new.plan.price_id,
        new.plan.amount,
        new.plan.currency,
        new.plan.every,
        new.plan.every_count,
        new.payment_method_id,
        correlation_id,
    )
    assert row is not None  # inserted, or touched above
    values = dict(row)
    fresh = values.pop("fresh")
    return Subscription(**{**values, "state": SubscriptionState(values["state"])}), fresh


async def find(connection: Connection, subscription_id: str) -> Subscription | None:
    """By our id."""
    return _subscription(
        await connection.fetchrow(f"SELECT {_COLUMNS} FROM subscriptions WHERE id = $1", subscription_id)
    )


async def by_stripe_id(connection: Connection, stripe_id: str) -> Subscription | None:
    """By Stripe's id."""
    return _subscription(
        await connection.fetchrow(f"SELECT {_COLUMNS} FROM subscriptions WHERE stripe_id = $1", stripe_id)
    )


async def page(connection: Connection, account_id: str, limit: int, before: str | None) -> list[Subscription]:
    """An account's subscriptions that Stripe has, newest first, from before the one named."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM subscriptions
         WHERE account_id = $1 AND stripe_id IS NOT NULL AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $2
        """,
        account_id,
        limit,
        before,
    )
    return [found for row in rows if (found := _subscription(row))]


async def live_unchecked(connection: Connection, limit: int, older_than: timedelta) -> list[Subscription]:
    """Those that may go on and were not compared with Stripe for so long; longest first."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM subscriptions
         WHERE stripe_id IS NOT NULL AND state NOT IN ('incomplete_expired', 'canceled')
           AND created_at < now() - $2::interval AND (checked_at IS NULL OR checked_at < now() - $2::interval)
         ORDER BY checked_at NULLS FIRST, id LIMIT $1
        """,
        limit,
        older_than,
    )
    return [found for row in rows if (found := _subscription(row))]


async def set_checked(connection: Connection, subscription_ids: Sequence[str]) -> None:
    """Notes that subscriptions were compared with Stripe."""
    await connection.execute(
        "UPDATE subscriptions SET checked_at = now() WHERE id = ANY($1::uuid[])", list(subscription_ids)
    )


async def next_key(connection: Connection, subscription: Subscription) -> None:
    """Gives up a key that Stripe answers with a stored failure, unless somebody else did."""
    await connection.execute(
        "UPDATE subscriptions SET stripe_key = $2 + 1, updated_at = now() WHERE id = $1 AND stripe_key = $2",
        subscription.id,
        subscription.stripe_key,
    )


async def refuse(connection: Connection, subscription_id: str) -> None:
    """Stripe would not have it, so there is none."""
    await connection.execute(
        """
        UPDATE subscriptions SET state = 'refused', version = version + 1, updated_at = now()
         WHERE id = $1 AND state = 'creating'
        """,
        subscription_id,
    )


async def take(connection: Connection, subscription: Subscription, told: Told) -> Subscription | None:
    """Records what Stripe said after `subscription` was read; None when something was recorded meanwhile."""
    row = await connection.fetchrow(
        f"""
        UPDATE subscriptions
           SET stripe_id = $3, state = $4, cancel_at_period_end = $5, current_period_end = $6, ended_at = $7,
               amount = $8, currency = $9, version = version + 1, updated_at = now()
         WHERE id = $1 AND version = $2 AND (stripe_id IS NULL OR stripe_id = $3)
        RETURNING {_COLUMNS}
        """,
        subscription.id,
        subscription.version,
        told.stripe_id,
        told.state,
        told.cancel_at_period_end,
        told.current_period_end,
        told.ended_at,
        told.amount,
        told.currency,
    )
    return _subscription(row)


async def keep_invoice(connection: Connection, invoice: Invoice) -> None:
    """Records how an invoice stands."""
    await connection.execute(
        """
        INSERT INTO subscription_invoices (id, subscription_id, reason, amount_due, amount_paid, currency, status,
                                           attempts, next_attempt_at, made_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            ON CONFLICT (id) DO UPDATE
               SET amount_due = excluded.amount_due, amount_paid = excluded.amount_paid, status = excluded.status,
                   attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at, updated_at = now()
        """,
        invoice.id,
        invoice.subscription_id,
        invoice.reason,
        invoice.amount_due,
        invoice.amount_paid,
        invoice.currency,
        invoice.status,
        invoice.attempts,
        invoice.next_attempt_at,
        invoice.made_at,
    )


async def find_invoice(connection: Connection, invoice_id: str) -> Invoice | None:
    """By Stripe's id."""
    row = await connection.fetchrow(f"SELECT {_INVOICE} FROM subscription_invoices WHERE id = $1", invoice_id)
    return Invoice(**row) if row else None
