"""Bookable services over HTTP."""

from pydantic import BaseModel

from reliability.asgi import Answer, Call, Endpoint
from reliability.postgres import Database
from services.orders.appointment import repository
from services.orders.cart.schemas import MoneyView

__all__ = ["AppointmentRoutes"]


class ServiceView(BaseModel):
    """What a customer can book."""

    id: str
    slug: str
    title: str
    description: str
    duration_minutes: int
    price: MoneyView


class ServicePage(BaseModel):
    """All of them; there are few."""

    items: list[ServiceView]
    next_cursor: str | None = None


class AppointmentRoutes:
    """Decode, call, encode."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [Endpoint("GET", "/api/appointments/services", self._services, answer=ServicePage)]

    async def _services(self, _call: Call) -> Answer:
        async with self._database.connection() as connection:
            rows = await repository.services(connection)
        return Answer(ServicePage(items=[ServiceView.model_validate(row) for row in rows]))
