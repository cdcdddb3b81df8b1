"""The jobs of appointments."""

from reliability.jobs import Worker
from services.orders.appointment.reminders import ReminderService

__all__ = ["register"]


def register(worker: Worker, service: ReminderService) -> None:
    """Makes the handlers and the schedule known."""
    worker.handle("appointment_mail", service.send_mail)
    worker.handle("appointment_reminder", service.send_reminder)
    worker.every(300.0, "appointment_reminders", service.remind)
