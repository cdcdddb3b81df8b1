"""What staff see of orders."""

from dataclasses import dataclass
from typing import Any

from reliability.errors import NotFound
from reliability.postgres import Database
from services.orders.desk import repository
from services.orders.desk.repository import OrderRow
from services.orders.desk.schemas import OrderFilter
from services.orders.history.repository import timeline
from services.orders.order import repository as orders
from services.orders.order.domain import Event, Order
from services.orders.refund import repository as refunds

__all__ = ["OrderDesk", "OrderFile"]


@dataclass(frozen=True, slots=True)
class OrderFile:
    """An order with everything that is known of it; `refundable` in minor units."""

    order: Order
    facts: Any
    refundable: int
    timeline: list[Event]


class OrderDesk:
    """Reads; what is done belongs to who owns the rule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def orders(self, which: OrderFilter) -> list[OrderRow]:
        """Newest first; one more than the limit when there are more. Raises `ValidationFailed`."""
        after = which.after()
        narrowed = (which.status, which.email, which.order_number, which.customer_id, which.since, which.until)
        async with self._database.connection() as connection:
            return await repository.listed(connection, narrowed, after, which.limit + 1)

    async def order(self, order_id: str) -> OrderFile:
        """One of them. Raises `NotFound`."""
        async with self._database.transaction("order of the desk") as connection:
            order = await orders.find(connection, order_id)
            if order is None:
                raise NotFound(f"There is no order {order_id}.")
            left = await refunds.refundable(connection, order.id)
            facts = await repository.facts(connection, order.id)
            return OrderFile(order, facts, left[1] if left else 0, await timeline(connection, order.id))
