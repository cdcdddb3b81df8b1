"""Appointments as staff make and change them, and when there can be any."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints, model_validator

from reliability import audit, idempotency
from reliability.asgi.fields import Moment
from reliability.errors import FieldError, NotFound, ValidationFailed
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.orders.appointment import mail, repository
from services.orders.appointment.domain import Appointment, AppointmentStatus
from services.orders.appointment.service import book_slot, move, taken
from services.orders.checkout.schemas import MailAddress, OneLine
from services.orders.errors import AppointmentEnded
from services.orders.order.domain import staff
from services.orders.pages import PageQuery

__all__ = ["AppointmentDesk", "AppointmentFilter", "Availability", "BookFor", "Change"]

A = TypeVar("A")

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), OneLine]
Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100), OneLine]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


def _zone(name: str) -> str:
    if name not in available_timezones():
        message = "must be a time zone of the IANA database"
        raise ValueError(message)
    return ZoneInfo(name).key


class AppointmentFilter(PageQuery):
    """Which appointments; None does not narrow."""

    since: Moment | None = None
    until: Moment | None = None
    member_id: UUID | None = None
    status: AppointmentStatus | None = None


class BookFor(BaseModel):
    """Whom to book, and for what."""

    service_id: UUID
    member_id: UUID
    starts_at: AwareDatetime
    email: MailAddress
    customer_name: Line
    pet_name: Short = ""
    note: Annotated[str, StringConstraints(max_length=1000)] = ""
    customer_id: UUID | None = None


class Change(BaseModel):
    """Either when and with whom, or what it is."""

    starts_at: AwareDatetime | None = None
    member_id: UUID | None = None
    status: AppointmentStatus | None = None
    reason: Line | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        moves = self.starts_at is not None or self.member_id is not None
        if moves == (self.status is not None):
            message = "give either starts_at and member_id, or status"
            raise ValueError(message)
        if self.status is AppointmentStatus.BOOKED:
            message = "what has ended is booked anew"
            raise ValueError(message)
        return self


class Price(BaseModel):
    """Minor units."""

    amount: int = Field(ge=0, le=10**12)
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class ServiceIn(BaseModel):
    """What can be booked; new without an id."""

    id: UUID | None = None
    slug: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
    title: Line
    description: Annotated[str, Field(max_length=1000)]
    duration_minutes: int = Field(ge=5, le=12 * 60)
    price: Price
    policy_hours: int = Field(ge=0, le=24 * 30)
    active: bool = True


class HoursIn(BaseModel):
    """On one weekday, 1 is Monday."""

    weekday: int = Field(ge=1, le=7)
    opens: Clock
    closes: Clock

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.opens >= self.closes:
            message = "closes must be after opens"
            raise ValueError(message)
        return self


class TimeOffIn(BaseModel):
    """When somebody is away."""

    starts_at: AwareDatetime
    ends_at: AwareDatetime
    reason: Short = ""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.starts_at >= self.ends_at:
            message = "ends_at must be after starts_at"
            raise ValueError(message)
        return self


class MemberIn(BaseModel):
    """Somebody who works here; new without an id."""

    id: UUID | None = None
    name: Line
    time_zone: Annotated[str, AfterValidator(_zone)]
    active: bool
    service_ids: list[UUID] = Field(max_length=200)
    hours: list[HoursIn] = Field(max_length=50)
    time_off: list[TimeOffIn] = Field(max_length=200)


class Availability(BaseModel):
    """Services and members to be put in the place of those with their ids."""

    services: list[ServiceIn] = Field(max_length=200)
    members: list[MemberIn] = Field(max_length=200)


class AppointmentDesk:
    """Each write with its audit row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def appointments(self, which: AppointmentFilter) -> list[Appointment]:
        """Booked last first; one more than the limit when there are more. Raises `ValidationFailed`."""
        narrowed = (which.since, which.until, which.member_id, which.status)
        async with self._database.connection() as connection:
            return await repository.listed(connection, narrowed, which.after(), which.limit + 1)

    async def book(self, wanted: BookFor, staff_id: str, answer: Callable[[Appointment], A]) -> A:
        """Books for a customer, once per key. Raises `NotFound`, `SlotTaken`, `ValidationFailed`."""
        async with taken(wanted.starts_at), self._database.transaction("book for a customer") as connection:
            claim = await idempotency.claim(connection, staff_id)
            new = {
                "service_id": str(wanted.service_id),
                "staff_id": str(wanted.member_id),
                "customer_id": str(wanted.customer_id) if wanted.customer_id else None,
                "email": wanted.email,
                "customer_name": wanted.customer_name,
                "pet_name": wanted.pet_name,
                "note": wanted.note,
            }
            appointment = await book_slot(connection, new, wanted.starts_at, staff(staff_id))
            await audit.record(connection, staff_id, "appointment.booked", appointment.id)
            answered = answer(appointment)
            await claim.store(connection, 200, answered)
        return answered

    async def change(self, appointment_id: str, change: Change, staff_id: str, answer: Callable[[Appointment], A]) -> A:
        """Moves or ends an appointment. Raises `NotFound`, `AppointmentEnded`, `SlotTaken`, `ValidationFailed`."""
        at = change.starts_at or datetime.now(UTC)
        async with taken(at), self._database.transaction("change appointment") as connection:
            claim = await idempotency.claim(connection, staff_id)
            found = await repository.find(connection, appointment_id, lock=True) if is_id(appointment_id) else None
            if found is None:
                raise NotFound("There is no such appointment.")
            if found.status is not AppointmentStatus.BOOKED:
                raise AppointmentEnded(f"The appointment is {found.status}.")
            changed = await self._changed(connection, found, change, staff_id)
            answered = answer(changed)
            await claim.store(connection, 200, answered)
        return answered

    async def _changed(self, connection: Connection, found: Appointment, change: Change, staff_id: str) -> Appointment:
        actor = staff(staff_id)
        if change.status is None:
            member = str(change.member_id) if change.member_id else found.staff_id
            moved = await move(connection, found, member, change.starts_at or found.starts_at, actor)
            await audit.record(connection, staff_id, "appointment.moved", found.id)
            return moved
        await repository.set_status(connection, found.id, change.status, change.reason or f"{change.status}", actor)
        await audit.record(connection, staff_id, f"appointment.{change.status}", found.id)
        ended = await repository.find(connection, found.id)
        assert ended is not None  # its lock is ours
        if change.status is AppointmentStatus.CANCELLED:
            await mail.enqueue(connection, ended, "appointment_cancelled", by_shop=True, reason=change.reason)
        return ended

    async def availability(self) -> Mapping[str, Any]:
        """Services and members, as JSON values."""
        async with self._database.connection() as connection:
            return await repository.availability(connection)

    async def set_availability(self, wanted: Availability, staff_id: str) -> Mapping[str, Any]:
        """Puts services and members in their places. Raises `NotFound`, `ValidationFailed`."""
        async with self._database.transaction("set availability") as connection:
            try:
                for service in wanted.services:
                    service_id = await repository.put_service(connection, service.model_dump())
                    await audit.record(connection, staff_id, "service.set", _known(service_id, "service"))
                for member in wanted.members:
                    member_id = await repository.put_member(connection, member.model_dump())
                    await audit.record(connection, staff_id, "member.set", _known(member_id, "member"))
            except asyncpg.UniqueViolationError as error:
                pointer = "/services" if "slug" in str(error) else "/members"
                raise ValidationFailed([FieldError(pointer, "the same twice")]) from None
            except asyncpg.ForeignKeyViolationError:
                raise ValidationFailed([FieldError("/members", "there is no such service")]) from None
            return await repository.availability(connection)


def _known(found: str | None, what: str) -> str:
    if found is None:
        message = f"There is no such {what}."
        raise NotFound(message)
    return found
