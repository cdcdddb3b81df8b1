"""Mails about appointments: of each change once, and of each time 24 and 2 hours before."""

from datetime import datetime
from typing import Any

from reliability.jobs import Job, NewJob, Run
from reliability.jobs.queue import enqueue_many
from reliability.postgres import Database
from reliability.telemetry import adopt_correlation
from services.orders.appointment import repository
from services.orders.appointment.calendar import calendar
from services.orders.appointment.domain import Appointment, AppointmentStatus
from services.orders.appointment.mail import visit
from services.orders.notifications import Notifications

__all__ = ["ReminderService"]

_BATCH = 200


class ReminderService:
    """Decides in one transaction what is due, and hands it over from jobs."""

    def __init__(self, database: Database, notifications: Notifications) -> None:
        self._database = database
        self._notifications = notifications

    async def remind(self, _scheduled_for: datetime | None = None) -> Run:
        """Queues every reminder that is due; two at once are harmless, for each is a row of its own."""
        processed = 0
        while True:
            async with self._database.transaction("queue reminders") as connection:
                due = await repository.due_reminders(connection, _BATCH)
                await enqueue_many(connection, [_job(*each) for each in due])
                processed += len(due)
            if len(due) < _BATCH:
                return Run(processed)

    async def send_reminder(self, job: Job) -> None:
        """Reminds, unless the appointment was moved or cancelled since."""
        starts_at = datetime.fromisoformat(job.payload["starts_at"])
        appointment = await self._get(job.payload["appointment_id"])
        if appointment is None or appointment.status is not AppointmentStatus.BOOKED:
            return
        if appointment.starts_at != starts_at:
            return
        hours = job.payload["hours"]
        key = f"appointment-reminder:{appointment.id}:{hours}:{starts_at.isoformat()}"
        data = {**visit(appointment), "hours": hours}
        await self._notifications.send(key, appointment.email, "appointment_reminder", data)
        async with self._database.transaction("reminder sent") as connection:
            await job.complete(connection)

    async def send_mail(self, job: Job) -> None:
        """Tells the customer of a change; one that was overtaken by the next is not told."""
        appointment = await self._get(job.payload["appointment_id"])
        if appointment is None or appointment.sequence != job.payload["sequence"]:
            return
        data: dict[str, Any] = {**visit(appointment), "note": appointment.note or None, **job.payload["more"]}
        await self._notifications.send(
            f"appointment:{appointment.id}:{appointment.sequence}",
            appointment.email,
            job.payload["template"],
            data,
            calendar_ics=calendar(appointment),
        )
        async with self._database.transaction("appointment mail sent") as connection:
            await job.complete(connection)

    async def _get(self, appointment_id: str) -> Appointment | None:
        async with self._database.connection() as connection:
            appointment = await repository.find(connection, appointment_id)
        if appointment is not None:
            adopt_correlation(appointment.correlation_id)
        return appointment


def _job(appointment_id: str, hours: int, starts_at: datetime) -> NewJob:
    payload = {"appointment_id": appointment_id, "hours": hours, "starts_at": starts_at.isoformat()}
    return NewJob("appointment_reminder", payload, unique_key=f"{appointment_id}:{hours}:{starts_at.isoformat()}")
