"""Every statement on appointments."""

from typing import Any

from reliability.postgres import Connection

__all__ = ["services"]


async def services(connection: Connection) -> list[dict[str, Any]]:
    """Bookable services by title."""
    rows = await connection.fetch(
        """
        SELECT id::text, slug, title, description, duration_minutes,
               jsonb_build_object('amount', price, 'currency', currency) AS price
          FROM bookable_services ORDER BY title
        """
    )
    return [dict(row) for row in rows]
