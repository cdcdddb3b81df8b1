"""Every statement that forgets who a customer was."""

from typing import Final

from reliability.postgres import Connection

__all__ = ["forget", "known"]

# What is over needs nobody's name; taxes need to know where it went.
_FORGET: Final = (
    """
    UPDATE orders
       SET email = $2, note = '', shipping_address = shipping_address ||
           '{"name": "Erased", "line1": "Erased", "line2": null, "city": "Erased", "postal_code": ""}'
     WHERE customer_id = $1 AND email <> $2
       AND (status IN ('cancelled', 'refunded') OR fulfilled_at IS NOT NULL)
    """,
    """
    UPDATE appointments SET email = $2, customer_name = '', pet_name = '', note = ''
     WHERE customer_id = $1 AND email <> $2 AND (status <> 'booked' OR ends_at < now())
    """,
    "UPDATE coupon_redemptions SET email = $2 WHERE customer_id = $1 AND email <> $2",
    """
    UPDATE carts SET email = NULL, customer_name = NULL
     WHERE customer_id = $1 AND $2::text IS NOT NULL AND (email IS NOT NULL OR customer_name IS NOT NULL)
    """,
)
_KNOWN: Final = """
SELECT EXISTS (SELECT FROM orders WHERE customer_id = $1 AND email <> $2)
    OR EXISTS (SELECT FROM appointments WHERE customer_id = $1 AND email <> $2)
"""


async def forget(connection: Connection, customer_id: str, nobody: str) -> None:
    """Puts `nobody` in the place of the customer's address, and takes away what else says who they were."""
    for statement in _FORGET:
        await connection.execute(statement, customer_id, nobody)


async def known(connection: Connection, customer_id: str, nobody: str) -> bool:
    """Whether something is going on that still says who they are."""
    return bool(await connection.fetchval(_KNOWN, customer_id, nobody))
