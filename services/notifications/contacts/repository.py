"""Every statement on the copy of customers."""

from reliability.postgres import Connection
from services.notifications.schemas import CustomerChange

__all__ = ["consents", "record"]

# Events may overtake one another: what was true later wins, whatever arrives last.
_RECORD = """
INSERT INTO contacts AS known (id, email, name, marketing_consent, changed_at)
VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE
       SET email = excluded.email, name = excluded.name, marketing_consent = excluded.marketing_consent,
           changed_at = excluded.changed_at
     WHERE known.changed_at < excluded.changed_at
"""
# Somebody who withdrew under one account has not agreed under another with the same address.
_CONSENTS = """
SELECT coalesce(bool_and(marketing_consent AND NOT suppressed), false) FROM contacts WHERE lower(email) = lower($1)
"""


async def record(connection: Connection, change: CustomerChange) -> bool:
    """Keeps the newest change of a customer; False when a newer one, or this one, is known."""
    done = await connection.execute(
        _RECORD, change.customer_id, change.email, change.name, change.marketing_consent, change.changed_at
    )
    return done == "INSERT 0 1"


async def consents(connection: Connection, address: str) -> bool:
    """Whether whoever has this address agreed to marketing and takes mail."""
    return bool(await connection.fetchval(_CONSENTS, address))
