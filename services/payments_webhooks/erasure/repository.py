"""Every statement that forgets who a customer was."""

from typing import Final

from reliability.postgres import Connection

__all__ = ["forget", "known", "live"]

# Ours and Stripe's words for a subscription that charges nothing any more.
_OVER: Final = "('refused', 'incomplete_expired', 'canceled')"
_FORGET: Final = (
    """
    UPDATE payments SET email = $3
     WHERE lower(email) = lower($2) AND state IN ('succeeded', 'canceled') AND $1::uuid IS NOT NULL
    """,
    f"""
    UPDATE subscriptions SET email = $3, customer_name = 'Erased'
     WHERE account_id = $1 AND email <> $3 AND state IN {_OVER} AND $2::text IS NOT NULL
    """,
    "UPDATE stripe_customers SET email = $3 WHERE account_id = $1 AND $2::text IS NOT NULL",
)
_LIVE: Final = f"""
SELECT id::text FROM subscriptions WHERE account_id = $1 AND stripe_id IS NOT NULL AND state NOT IN {_OVER} ORDER BY id
"""
_KNOWN: Final = """
SELECT EXISTS (SELECT FROM payments WHERE lower(email) = lower($2))
    OR EXISTS (SELECT FROM subscriptions WHERE account_id = $1 AND email <> $3)
"""


async def live(connection: Connection, account_id: str) -> list[str]:
    """The ids of subscriptions that Stripe may still charge."""
    return [row["id"] for row in await connection.fetch(_LIVE, account_id)]


async def forget(connection: Connection, account_id: str, email: str, nobody: str) -> None:
    """Puts `nobody` in the place of an address wherever nothing is going on any more."""
    for statement in _FORGET:
        await connection.execute(statement, account_id, email, nobody)


async def known(connection: Connection, account_id: str, email: str, nobody: str) -> bool:
    """Whether something is going on that still has the address."""
    return bool(await connection.fetchval(_KNOWN, account_id, email, nobody))
