"""The desk's RPCs on appointments."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

import grpc.aio

from holdfast.common.v1.money_pb2 import Money
from holdfast.orders.v1 import appointment_desk_pb2 as pb
from holdfast.orders.v1 import appointment_desk_pb2_grpc
from services.orders.appointment.desk import AppointmentDesk, AppointmentFilter, Availability, BookFor, Change
from services.orders.appointment.domain import Appointment
from services.orders.desk.messages import given, instant, stamp
from services.orders.desk.schemas import checked
from services.orders.pages import next_cursor

__all__ = ["AppointmentDeskServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AppointmentDeskServicer(appointment_desk_pb2_grpc.AppointmentDeskServiceServicer):
    """Translates."""

    def __init__(self, desk: AppointmentDesk) -> None:
        self._desk = desk

    async def ListAppointments(
        self, request: pb.ListAppointmentsRequest, context: Context
    ) -> pb.ListAppointmentsResponse:
        """See the proto."""
        names = pb.ListAppointmentsRequest.DESCRIPTOR.fields_by_name
        which = checked(AppointmentFilter, given(request, *names))
        rows = await self._desk.appointments(which)
        items = [_appointment(row) for row in rows[: which.limit]]
        return pb.ListAppointmentsResponse(items=items, next_cursor=next_cursor(rows, which.limit))

    async def BookAppointment(self, request: pb.BookAppointmentRequest, context: Context) -> pb.BookAppointmentResponse:
        """See the proto."""
        plain = {name: getattr(request, name) for name in ("service_id", "member_id", "email", "customer_name")}
        more = given(request, "starts_at", "pet_name", "note", "customer_id")
        return await self._desk.book(
            checked(BookFor, plain | more),
            request.staff_id,
            lambda booked: pb.BookAppointmentResponse(appointment=_appointment(booked)),
        )

    async def UpdateAppointment(
        self, request: pb.UpdateAppointmentRequest, context: Context
    ) -> pb.UpdateAppointmentResponse:
        """See the proto."""
        return await self._desk.change(
            request.appointment_id,
            checked(Change, given(request, "starts_at", "member_id", "status", "reason")),
            request.staff_id,
            lambda changed: pb.UpdateAppointmentResponse(appointment=_appointment(changed)),
        )

    async def GetAvailability(self, request: pb.GetAvailabilityRequest, context: Context) -> pb.GetAvailabilityResponse:
        """See the proto."""
        found = await self._desk.availability()
        return pb.GetAvailabilityResponse(
            services=map(_service, found["services"]), members=map(_member, found["members"])
        )

    async def SetAvailability(self, request: pb.SetAvailabilityRequest, context: Context) -> pb.SetAvailabilityResponse:
        """See the proto."""
        wanted = {
            "services": [_given_service(service) for service in request.services],
            "members": [_given_member(member) for member in request.members],
        }
        found = await self._desk.set_availability(checked(Availability, wanted), request.staff_id)
        return pb.SetAvailabilityResponse(
            services=map(_service, found["services"]), members=map(_member, found["members"])
        )


def _given_service(service: pb.DeskService) -> dict[str, Any]:
    names = ("slug", "title", "description", "duration_minutes", "policy_hours")
    return {name: getattr(service, name) for name in names} | given(service, "id", "price", "active")


def _given_member(member: pb.Member) -> dict[str, Any]:
    return {
        **given(member, "id"),
        "name": member.name,
        "time_zone": member.time_zone,
        "active": member.active,
        "service_ids": list(member.service_ids),
        "hours": [{"weekday": each.weekday, "opens": each.opens, "closes": each.closes} for each in member.hours],
        "time_off": [
            {
                "starts_at": instant(each, "starts_at"),
                "ends_at": instant(each, "ends_at"),
                "reason": each.reason,
            }
            for each in member.time_off
        ],
    }


def _service(row: Mapping[str, Any]) -> pb.DeskService:
    return pb.DeskService(**{**row, "price": Money(**row["price"])})


def _member(row: Mapping[str, Any]) -> pb.Member:
    hours = [pb.WorkingHours(**each) for each in row["hours"]]
    away = [
        pb.TimeOff(
            starts_at=stamp(datetime.fromisoformat(each["starts_at"])),
            ends_at=stamp(datetime.fromisoformat(each["ends_at"])),
            reason=each["reason"],
        )
        for each in row["time_off"]
    ]
    return pb.Member(**{**row, "hours": hours, "time_off": away})


def _appointment(found: Appointment) -> pb.DeskAppointment:
    return pb.DeskAppointment(
        id=found.id,
        service_id=found.service_id,
        service=found.service,
        member_id=found.staff_id,
        member=found.staff,
        customer_id=found.customer_id,
        email=found.email,
        customer_name=found.customer_name,
        pet_name=found.pet_name,
        note=found.note,
        starts_at=stamp(found.starts_at),
        ends_at=stamp(found.ends_at),
        time_zone=found.time_zone,
        status=found.status,
    )
