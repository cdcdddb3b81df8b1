"""How an order's time is up without waiting for it."""

import asyncpg

from deploy.local.databases import database_of, database_url
from deploy.local.system import System
from reliability.jobs import schedules

__all__ = ["let_it_expire"]


async def let_it_expire(system: System, order_id: str) -> None:
    """The order's time is up now, and orders looks for such: within the second, not when it is next due."""
    orders = await asyncpg.connect(database_url(system.endpoints.postgres, database_of("orders")))
    try:
        await orders.execute("UPDATE orders SET hold_expires_at = now() WHERE id = $1", order_id)
        await schedules.trigger(orders, "expired_holds")
    finally:
        await orders.close()
