"""An appointment as an iCalendar file (RFC 5545); sent again with a higher SEQUENCE, it replaces what was there."""

from icalendar import Calendar, Event

from services.orders.appointment.domain import Appointment, AppointmentStatus

__all__ = ["calendar"]


def calendar(appointment: Appointment) -> str:
    """The file. The same appointment at the same sequence makes the same bytes: a mail may be handed over twice."""
    event = Event()
    event.add("uid", f"{appointment.id}@holdfast")
    event.add("sequence", appointment.sequence)
    event.add("dtstamp", appointment.changed_at)
    event.add("dtstart", appointment.starts_at)
    event.add("dtend", appointment.ends_at)
    event.add("summary", f"{appointment.service} with {appointment.staff}")
    event.add("status", "CANCELLED" if appointment.status is AppointmentStatus.CANCELLED else "CONFIRMED")
    file = Calendar()
    file.add("prodid", "-//Holdfast//Appointments//EN")
    file.add("version", "2.0")
    file.add_component(event)
    return str(file.to_ical().decode())
