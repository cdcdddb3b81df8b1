"""Booking, moving and cancelling appointments. That nobody is booked twice is the exclusion constraint's promise."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from reliability import idempotency
from reliability.context import Principal
from reliability.errors import FieldError, NotFound, ValidationFailed
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.orders.appointment import mail, repository
from services.orders.appointment.domain import (
    HORIZON,
    NOTICE,
    Appointment,
    AppointmentStatus,
    BookableService,
    Slot,
    Span,
    StaffMember,
    changeable_until,
    fits,
    slots,
)
from services.orders.appointment.schemas import AppointmentView, Book
from services.orders.errors import AppointmentEnded, SlotTaken, TooLateToChange

__all__ = ["AppointmentService", "book_slot", "move", "taken"]

_CUSTOMER = "customer"


class AppointmentService:
    """What customers do; staff do it through `AppointmentDesk`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def services(self) -> list[dict[str, Any]]:
        """What can be booked."""
        async with self._database.connection() as connection:
            return await repository.services(connection)

    async def slots(self, service_id: str, staff_id: str | None, first: date, days: int) -> list[Slot]:
        """When a service can be booked, within `days` from `first` of each member's calendar. Raises `NotFound`."""
        now = datetime.now(UTC)
        if not now.date() - timedelta(days=1) <= first <= now.date() + HORIZON:
            raise ValidationFailed([FieldError("/from", f"must be from today to {HORIZON.days} days ahead")])
        async with self._database.connection() as connection:
            service = await _offered(connection, service_id)
            members = await repository.members(connection, service_id, staff_id)
            # A day more on each side: the days are of the members' calendars.
            start = datetime.combine(first, datetime.min.time(), UTC) - timedelta(days=1)
            span = Span(start, start + timedelta(days=days + 2))
            taken = await repository.busy(connection, [member.id for member in members], span)
        free = [_with_busy(member, taken[member.id]) for member in members]
        return slots(free, service.duration, first, days, now)

    async def book(self, who: Principal, wanted: Book) -> AppointmentView:
        """Books a slot, once per key. Raises `NotFound`, `SlotTaken`."""
        async with taken(wanted.starts_at), self._database.transaction("book appointment") as connection:
            claim = await idempotency.claim(connection, f"customer:{who.id}")
            new = {
                "service_id": str(wanted.service_id),
                "staff_id": str(wanted.staff_id),
                "customer_id": who.id,
                "email": who.email,
                "customer_name": who.name,
                "pet_name": wanted.pet_name or "",
                "note": wanted.note or "",
            }
            appointment = await book_slot(connection, new, wanted.starts_at, _CUSTOMER)
            view = AppointmentView.of(appointment)
            await claim.store(connection, 201, view.model_dump(mode="json"))
        return view

    async def mine(self, customer_id: str, after: str | None, limit: int) -> list[Appointment]:
        """Booked last first, from behind the appointment `after`; one more than `limit` when there are more."""
        async with self._database.connection() as connection:
            return await repository.of_customer(connection, customer_id, after, limit + 1)

    async def cancel(self, customer_id: str, appointment_id: str) -> AppointmentView:
        """Cancels; the second call finds it cancelled. Raises `NotFound`, `TooLateToChange`, `AppointmentEnded`."""
        async with self._database.transaction("cancel appointment") as connection:
            claim = await idempotency.claim(connection, f"customer:{customer_id}")
            appointment = await _own(connection, customer_id, appointment_id)
            if appointment.status is not AppointmentStatus.CANCELLED:
                _refuse_late(appointment)
                await repository.set_status(
                    connection, appointment.id, AppointmentStatus.CANCELLED, "cancelled by the customer", _CUSTOMER
                )
                appointment = await _get(connection, appointment.id)
                await mail.enqueue(connection, appointment, "appointment_cancelled", by_shop=False)
            view = AppointmentView.of(appointment)
            await claim.store(connection, 200, view.model_dump(mode="json"))
            return view

    async def reschedule(
        self, customer_id: str, appointment_id: str, starts_at: datetime, staff_id: str | None
    ) -> AppointmentView:
        """Moves to another slot; the old one is free in the same instant.

        Raises `NotFound`, `TooLateToChange`, `AppointmentEnded`, `SlotTaken`.
        """
        async with taken(starts_at), self._database.transaction("reschedule appointment") as connection:
            claim = await idempotency.claim(connection, f"customer:{customer_id}")
            appointment = await _own(connection, customer_id, appointment_id)
            _refuse_late(appointment)
            moved = await move(connection, appointment, staff_id or appointment.staff_id, starts_at, _CUSTOMER)
            view = AppointmentView.of(moved)
            await claim.store(connection, 200, view.model_dump(mode="json"))
            return view


async def book_slot(connection: Connection, new: dict[str, Any], starts_at: datetime, actor: str) -> Appointment:
    """Books, and decides to tell the customer. Raises `NotFound`, `SlotTaken`, `ValidationFailed`."""
    service = await _offered(connection, new["service_id"])
    span = await _slot(connection, service, new["staff_id"], starts_at)
    booked = {**new, "starts_at": span.starts_at, "ends_at": span.ends_at}
    appointment = await _get(connection, await repository.insert(connection, booked, actor))
    await mail.enqueue(connection, appointment, "appointment_booked")
    return appointment


async def move(
    connection: Connection, appointment: Appointment, staff_id: str, starts_at: datetime, actor: str
) -> Appointment:
    """Moves a booked appointment whose lock the caller holds, and decides to tell the customer."""
    service = await _service(connection, appointment.service_id)
    span = await _slot(connection, service, staff_id, starts_at)
    if (span.starts_at, staff_id) == (appointment.starts_at, appointment.staff_id):
        return appointment
    await repository.move(connection, appointment, staff_id, span, actor)
    moved = await _get(connection, appointment.id)
    previous = appointment.starts_at.isoformat().replace("+00:00", "Z")
    await mail.enqueue(connection, moved, "appointment_moved", previous_starts_at=previous)
    return moved


async def _slot(connection: Connection, service: BookableService, staff_id: str, starts_at: datetime) -> Span:
    """The span that starts then, when the member works then. Whether it is taken, the constraint knows."""
    now = datetime.now(UTC)
    if not now + NOTICE <= starts_at <= now + HORIZON:
        message = f"must be from an hour to {HORIZON.days} days ahead"
        raise ValidationFailed([FieldError("/starts_at", message)])
    span = Span(starts_at.astimezone(UTC), starts_at.astimezone(UTC) + service.duration)
    members = await repository.members(connection, service.id, staff_id)
    if not members:
        raise ValidationFailed([FieldError("/staff_id", "nobody of this id does this service")])
    if not fits(members[0], span):
        raise ValidationFailed([FieldError("/starts_at", "is no start of a slot in the opening hours")])
    await repository.lock_staff(connection, staff_id)
    if await repository.away(connection, staff_id, span):
        raise SlotTaken("Nobody is there at that time.", starts_at=starts_at.isoformat())
    return span


@asynccontextmanager
async def taken(starts_at: datetime) -> AsyncIterator[None]:
    """Turns the constraint's refusal into ours."""
    try:
        yield
    except asyncpg.ExclusionViolationError:
        raise SlotTaken("Somebody else has booked this time.", starts_at=starts_at.isoformat()) from None


async def _service(connection: Connection, service_id: str) -> BookableService:
    service = await repository.service(connection, service_id)
    if service is None:
        raise NotFound("There is no such service.")
    return service


async def _offered(connection: Connection, service_id: str) -> BookableService:
    service = await _service(connection, service_id)
    if not service.active:
        raise NotFound("This service is no longer offered.")
    return service


async def _get(connection: Connection, appointment_id: str) -> Appointment:
    appointment = await repository.find(connection, appointment_id, lock=True)
    if appointment is None:
        raise NotFound
    return appointment


async def _own(connection: Connection, customer_id: str, appointment_id: str) -> Appointment:
    appointment = await repository.find(connection, appointment_id, lock=True) if is_id(appointment_id) else None
    if appointment is None or appointment.customer_id != customer_id:
        raise NotFound
    return appointment


def _refuse_late(appointment: Appointment) -> None:
    if appointment.status is not AppointmentStatus.BOOKED:
        raise AppointmentEnded(f"The appointment is {appointment.status}.")
    until = changeable_until(appointment)
    if datetime.now(UTC) > until:
        raise TooLateToChange(
            f"It could be moved or cancelled until {appointment.policy_hours} hours before; please call us.",
            until=until.isoformat(),
        )


def _with_busy(member: StaffMember, taken: list[Span]) -> StaffMember:
    return StaffMember(member.id, member.name, member.time_zone, member.hours, tuple(taken))
