"""When somebody can be booked: on their wall clock, also on the days it is changed."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from services.orders.appointment.calendar import calendar
from services.orders.appointment.domain import (
    HORIZON,
    NOTICE,
    STEP,
    Appointment,
    AppointmentStatus,
    OpeningHours,
    Span,
    StaffMember,
    fits,
    open_spans,
    slots,
)

ZONES = ("America/Los_Angeles", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca")


def member(zone: str, opens: time, closes: time, *busy: Span) -> StaffMember:
    return StaffMember("s", "Jordan", zone, tuple(OpeningHours(day, opens, closes) for day in range(1, 8)), busy)


def test_nine_is_nine_in_summer_and_in_winter() -> None:
    """The instant moves with the clock, the time on the wall does not."""
    jordan = member("America/Los_Angeles", time(9), time(17))
    (before,) = open_spans(jordan, date(2026, 10, 31))
    (after,) = open_spans(jordan, date(2026, 11, 2))
    assert (before.starts_at.hour, after.starts_at.hour) == (16, 17)


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 8), 3), (date(2026, 11, 1), 5), (date(2026, 7, 1), 4)],
)
def test_a_night_shift_is_as_long_as_it_really_is(day: date, hours: int) -> None:
    """From 01:00 to 05:00 on the day the clock goes forward are three hours, on the day it goes back five."""
    (span,) = open_spans(member("America/Los_Angeles", time(1), time(5)), day)
    assert span.ends_at - span.starts_at == timedelta(hours=hours)


def test_hours_that_do_not_exist_open_nothing() -> None:
    """02:00 to 03:00 is skipped when the clock goes forward."""
    assert open_spans(member("America/Los_Angeles", time(2), time(3)), date(2026, 3, 8)) == []


@given(
    st.sampled_from(ZONES),
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.integers(0, 22 * 4),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_every_slot_is_a_slot(zone: str, first: date, opens: int, length: int, quarters: int) -> None:
    """In the opening hours, on the grid, free, not twice, and accepted when it is booked."""
    start = time(opens // 4, opens % 4 * 15)
    close_at = min(opens + length, 24 * 4 - 1)
    if close_at <= opens:
        return
    end = time(close_at // 4, close_at % 4 * 15)
    now = datetime.combine(first, time(), UTC) - timedelta(days=2)
    taken = Span(now + timedelta(days=3, hours=3), now + timedelta(days=3, hours=5))
    jordan, duration = member(zone, start, end, taken), quarters * STEP
    found = slots([jordan], duration, first, 3, now)
    assert len({slot.span for slot in found}) == len(found)
    for slot in found:
        span = slot.span
        assert now + NOTICE <= span.starts_at <= now + HORIZON
        assert span.ends_at - span.starts_at == duration
        assert not span.overlaps(taken)
        assert fits(jordan, span)
        assert not fits(jordan, Span(span.starts_at + timedelta(minutes=1), span.ends_at + timedelta(minutes=1)))
        assert slot.span.starts_at.astimezone(ZoneInfo(zone)).date() >= first


def test_a_calendar_file_says_when_and_is_replaced_by_the_next() -> None:
    """Parsed again: the same id, a higher sequence, and the word that it is cancelled."""
    at = datetime(2026, 12, 1, 17, tzinfo=UTC)

    def file(status: AppointmentStatus, sequence: int) -> str:
        appointment = Appointment(
            "0199a7f2-5c1e-7d3a-9a55-0d6e4f1b2c3d",
            "service",
            "Bath, dry; brush",
            "staff",
            "Jordan",
            "America/Los_Angeles",
            None,
            "a@example.com",
            "Ada",
            "",
            "",
            at,
            at + timedelta(minutes=45),
            status,
            sequence,
            24,
            "flow",
            at,
        )
        assert calendar(appointment) == calendar(appointment)
        return calendar(appointment)

    (booked,), (cancelled,) = (
        Calendar.from_ical(file(status, sequence)).events
        for sequence, status in enumerate((AppointmentStatus.BOOKED, AppointmentStatus.CANCELLED))
    )
    assert booked["uid"] == cancelled["uid"]
    assert (booked["sequence"], cancelled["sequence"]) == (0, 1)
    assert (booked["status"], cancelled["status"]) == ("CONFIRMED", "CANCELLED")
    assert (booked.start, booked.end) == (at, at + timedelta(minutes=45))
    assert booked["summary"] == "Bath, dry; brush with Jordan"
