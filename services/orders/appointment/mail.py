"""Mails about an appointment: decided with each change; what one says is looked up when it goes out."""

from datetime import datetime
from typing import Any

from reliability import jobs
from reliability.postgres import Connection
from services.orders.appointment.domain import Appointment

__all__ = ["enqueue", "visit"]


async def enqueue(connection: Connection, appointment: Appointment, template: str, **more: Any) -> None:
    """Decides to tell the customer of the state an appointment is in after a change, once per change."""
    await jobs.enqueue(
        connection,
        "appointment_mail",
        {"appointment_id": appointment.id, "template": template, "sequence": appointment.sequence, "more": more},
        unique_key=f"{appointment.id}:{appointment.sequence}",
        order_key=f"appointment:{appointment.id}",
    )


def visit(appointment: Appointment) -> dict[str, Any]:
    """Data that all templates of an appointment share."""
    return {
        "customer_name": appointment.customer_name,
        "timezone": appointment.time_zone,
        "service": appointment.service,
        "staff": appointment.staff,
        "pet_name": appointment.pet_name or None,
        "starts_at": _stamp(appointment.starts_at),
        "ends_at": _stamp(appointment.ends_at),
    }


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
