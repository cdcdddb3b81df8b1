"""Bodies of the appointment routes."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from services.orders.appointment.domain import Appointment, Slot, changeable_until
from services.orders.cart.schemas import MoneyView

__all__ = [
    "AppointmentPage",
    "AppointmentView",
    "Book",
    "Move",
    "ServicePage",
    "ServiceView",
    "SlotPage",
    "SlotQuery",
    "SlotView",
]

Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]


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


class SlotQuery(BaseModel):
    """`from` is a day of the shop's calendar."""

    model_config = ConfigDict(extra="forbid")

    service_id: UUID
    staff_id: UUID | None = None
    first: Annotated[date, Field(alias="from")]
    days: int = Field(default=7, ge=1, le=14)


class SlotView(BaseModel):
    """A time that can be booked; instants in UTC, `time_zone` is the clock on the wall there."""

    staff_id: str
    staff: str
    starts_at: datetime
    ends_at: datetime
    time_zone: str

    @classmethod
    def of(cls, slot: Slot) -> "SlotView":
        """The view of a slot."""
        return cls(
            staff_id=slot.staff_id,
            staff=slot.staff_name,
            starts_at=slot.span.starts_at,
            ends_at=slot.span.ends_at,
            time_zone=slot.time_zone,
        )


class SlotPage(BaseModel):
    """All of the days asked for, by time."""

    items: list[SlotView]
    next_cursor: str | None = None


class Book(BaseModel):
    """Books a slot."""

    service_id: UUID
    staff_id: UUID
    starts_at: AwareDatetime
    pet_name: Short | None = None
    note: Annotated[str, StringConstraints(max_length=1000)] | None = None


class Move(BaseModel):
    """Moves an appointment; without `staff_id` it stays with who has it."""

    starts_at: AwareDatetime
    staff_id: UUID | None = None


class AppointmentView(BaseModel):
    """An appointment as its customer sees it. It may be moved or cancelled until `changeable_until`."""

    id: str
    service_id: str
    service: str
    staff_id: str
    staff: str
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    status: str
    pet_name: str
    note: str
    changeable_until: datetime

    @classmethod
    def of(cls, appointment: Appointment) -> "AppointmentView":
        """The view of an appointment."""
        return cls(
            id=appointment.id,
            service_id=appointment.service_id,
            service=appointment.service,
            staff_id=appointment.staff_id,
            staff=appointment.staff,
            starts_at=appointment.starts_at,
            ends_at=appointment.ends_at,
            time_zone=appointment.time_zone,
            status=appointment.status,
            pet_name=appointment.pet_name,
            note=appointment.note,
            changeable_until=changeable_until(appointment),
        )


class AppointmentPage(BaseModel):
    """Booked last first."""

    items: list[AppointmentView]
    next_cursor: str | None
