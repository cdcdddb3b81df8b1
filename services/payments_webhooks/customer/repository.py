"""Every statement on customers at Stripe."""

from dataclasses import dataclass
from datetime import datetime

from reliability.postgres import Connection

__all__ = ["StripeCustomer", "by_stripe_id", "find", "insert", "set_stripe_id"]

_COLUMNS = "account_id::text, stripe_id, email, created_at"


@dataclass(frozen=True, slots=True)
class StripeCustomer:
    """An account of ours, and its name at Stripe once it has one."""

    account_id: str
    stripe_id: str | None
    email: str
    created_at: datetime


async def find(connection: Connection, account_id: str) -> StripeCustomer | None:
    """By our account's id."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM stripe_customers WHERE account_id = $1", account_id)
    return StripeCustomer(**row) if row else None


async def by_stripe_id(connection: Connection, stripe_id: str) -> StripeCustomer | None:
    """By Stripe's id."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM stripe_customers WHERE stripe_id = $1", stripe_id)
    return StripeCustomer(**row) if row else None


async def insert(connection: Connection, account_id: str, email: str) -> StripeCustomer:
    """The customer of an account, made if it was not there."""
    await connection.execute(
        "INSERT INTO stripe_customers (account_id, email) VALUES ($1, $2) ON CONFLICT DO NOTHING", account_id, email
    )
    customer = await find(connection, account_id)
    assert customer is not None  # there before, or inserted above
    return customer


async def set_stripe_id(connection: Connection, account_id: str, stripe_id: str) -> None:
    """Records what Stripe calls them, once."""
    await connection.execute(
        "UPDATE stripe_customers SET stripe_id = $2 WHERE account_id = $1 AND stripe_id IS NULL", account_id, stripe_id
    )
