"""When somebody can be booked. Opening hours are on a wall clock, everything else is an instant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

__all__ = [
    "HORIZON",
    "REMINDERS",
    "Appointment",
    "AppointmentStatus",
    "BookableService",
    "OpeningHours",
    "Slot",
    "Span",
    "StaffMember",
    "changeable_until",
    "fits",
    "open_spans",
    "slots",
]

STEP: Final = timedelta(minutes=15)
NOTICE: Final = timedelta(hours=1)
HORIZON: Final = timedelta(days=90)
# Hours before the start.
REMINDERS: Final = (24, 2)


class AppointmentStatus(StrEnum):
    """Held by a CHECK constraint and guarded UPDATEs; only `booked` leads anywhere."""

    BOOKED = "booked"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    NO_SHOW = "no_show"


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant to just before another, in UTC."""

    starts_at: datetime
    ends_at: datetime

    def overlaps(self, other: "Span") -> bool:
        """Whether both share an instant."""
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at

    def contains(self, other: "Span") -> bool:
        """Whether the other lies in it whole."""
        return self.starts_at <= other.starts_at and other.ends_at <= self.ends_at


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """On one weekday, 1 is Monday."""

    weekday: int
    opens: time
    closes: time


@dataclass(frozen=True, slots=True)
class BookableService:
    """What is done; what is not `active` is no longer offered."""

    id: str
    title: str
    duration: timedelta
    policy: timedelta
    active: bool


@dataclass(frozen=True, slots=True)
class StaffMember:
    """Who does it: opening hours on their clock, and when they are taken or away."""

    id: str
    name: str
    time_zone: str
    hours: tuple[OpeningHours, ...]
    busy: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A time somebody can be booked."""

    staff_id: str
    staff_name: str
    time_zone: str
    span: Span


@dataclass(frozen=True, slots=True)
class Appointment:
    """A booked time, and what became of it."""

    id: str
    service_id: str
    service: str
    staff_id: str
    staff: str
    time_zone: str
    customer_id: str | None
    email: str
    customer_name: str
    pet_name: str
    note: str
    starts_at: datetime
    ends_at: datetime
    status: AppointmentStatus
    sequence: int
    policy_hours: int
    correlation_id: str
    changed_at: datetime


def open_spans(member: StaffMember, day: date) -> list[Span]:
    """The opening hours of one day of the member's calendar.

    Only the ends are read off the wall clock; what lies between is real time. On the days the clock is changed a span
    that crosses the change is an hour shorter or longer, and no slot starts twice or never.
    """
    zone = ZoneInfo(member.time_zone)

    def instant(at: time) -> datetime:
        return datetime.combine(day, at, zone).astimezone(UTC)

    spans = [
        Span(instant(hours.opens), instant(hours.closes)) for hours in member.hours if hours.weekday == day.isoweekday()
    ]
    return sorted((span for span in spans if span.starts_at < span.ends_at), key=lambda span: span.starts_at)


def _starts(span: Span, duration: timedelta) -> Iterator[Span]:
    start = span.starts_at
    while start + duration <= span.ends_at:
        yield Span(start, start + duration)
        start += STEP


def slots(members: Sequence[StaffMember], duration: timedelta, first: date, days: int, now: datetime) -> list[Slot]:
    """Every start, in steps of a quarter of an hour, at which a member is free for `duration`; by time, then name."""
    found = [
        Slot(member.id, member.name, member.time_zone, span)
        for member in members
        for day in (first + timedelta(days=offset) for offset in range(days))
        for opening in open_spans(member, day)
        for span in _starts(opening, duration)
        if now + NOTICE <= span.starts_at <= now + HORIZON and not any(span.overlaps(taken) for taken in member.busy)
    ]
    return sorted(found, key=lambda slot: (slot.span.starts_at, slot.staff_name, slot.staff_id))


def fits(member: StaffMember, span: Span) -> bool:
    """Whether a span is one of the member's slots, taken or not."""
    day = span.starts_at.astimezone(ZoneInfo(member.time_zone)).date()
    return any(
        opening.contains(span) and (span.starts_at - opening.starts_at) % STEP == timedelta()
        for opening in open_spans(member, day)
    )


def changeable_until(appointment: Appointment) -> datetime:
    """Until when its customer may move or cancel it."""
    return appointment.starts_at - timedelta(hours=appointment.policy_hours)
