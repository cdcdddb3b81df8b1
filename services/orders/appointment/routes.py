"""Appointments over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.context import Principal, principal
from services.orders.appointment.schemas import (
    AppointmentPage,
    AppointmentView,
    Book,
    Move,
    ServicePage,
    ServiceView,
    SlotPage,
    SlotQuery,
    SlotView,
)
from services.orders.appointment.service import AppointmentService
from services.orders.pages import PageQuery, next_cursor

__all__ = ["AppointmentRoutes"]

_MINE = "/api/me/appointments"


class AppointmentRoutes:
    """Decode, call, encode."""

    def __init__(self, service: AppointmentService) -> None:
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        mine, view = Access.CUSTOMER, AppointmentView
        return [
            Endpoint("GET", "/api/appointments/services", self._services, answer=ServicePage),
            Endpoint("GET", "/api/appointments/slots", self._slots, query=SlotQuery, answer=SlotPage),
            Endpoint(
                "POST",
                "/api/appointments",
                self._book,
                access=mine,
                key=KeyRule.REQUIRED,
                body=Book,
                answer=view,
                status=201,
            ),
            Endpoint("GET", _MINE, self._list, access=mine, query=PageQuery, answer=AppointmentPage),
            Endpoint("POST", f"{_MINE}/{{id}}/cancel", self._cancel, access=mine, answer=view),
            Endpoint("POST", f"{_MINE}/{{id}}/reschedule", self._move, access=mine, body=Move, answer=view),
        ]

    async def _services(self, _call: Call) -> Answer:
        rows = await self._service.services()
        return Answer(ServicePage(items=[ServiceView.model_validate(row) for row in rows]))

    async def _slots(self, call: Call) -> Answer:
        query: SlotQuery = call.query
        staff_id = str(query.staff_id) if query.staff_id else None
        found = await self._service.slots(str(query.service_id), staff_id, query.first, query.days)
        return Answer(SlotPage(items=[SlotView.of(slot) for slot in found]))

    async def _book(self, call: Call) -> Answer:
        return Answer(await self._service.book(_who(), call.body), status=201)

    async def _list(self, call: Call) -> Answer:
        page: PageQuery = call.query
        found = await self._service.mine(_who().id, page.after(), page.limit)
        items = [AppointmentView.of(each) for each in found[: page.limit]]
        return Answer(AppointmentPage(items=items, next_cursor=next_cursor(found, page.limit)))

    async def _cancel(self, call: Call) -> Answer:
        return Answer(await self._service.cancel(_who().id, call.path("id")))

    async def _move(self, call: Call) -> Answer:
        wanted: Move = call.body
        staff_id = str(wanted.staff_id) if wanted.staff_id else None
        return Answer(await self._service.reschedule(_who().id, call.path("id"), wanted.starts_at, staff_id))


def _who() -> Principal:
    """Who is asking; the edge has let nobody through who is not signed in."""
    who = principal.get()
    assert who is not None  # Access.CUSTOMER
    return who
