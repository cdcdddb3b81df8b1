"""Every statement on appointments."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from reliability.context import correlation_id
from reliability.postgres import Connection
from services.orders.appointment.domain import (
    Appointment,
    AppointmentStatus,
    BookableService,
    OpeningHours,
    Span,
    StaffMember,
)

__all__ = [
    "availability",
    "away",
    "busy",
    "due_reminders",
    "find",
    "insert",
    "listed",
    "lock_staff",
    "members",
    "move",
    "of_customer",
    "put_member",
    "put_service",
    "service",
    "services",
    "set_status",
]

_APPOINTMENT: Final = """
SELECT a.id::text, a.service_id::text, s.title AS service, a.staff_id::text, m.name AS staff, m.time_zone,
       a.customer_id::text, a.email, a.customer_name, a.pet_name, a.note, a.starts_at, a.ends_at, a.status, a.sequence,
       s.policy_hours, a.correlation_id, a.changed_at
  FROM appointments a JOIN bookable_services s ON s.id = a.service_id JOIN staff_members m ON m.id = a.staff_id
"""
_MEMBERS: Final = """
SELECT m.id::text, m.name, m.time_zone,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(h.weekday, h.opens, h.closes)), '[]')
          FROM opening_hours h WHERE h.staff_id = m.id) AS hours
  FROM staff_members m JOIN staff_services o ON o.staff_id = m.id
 WHERE m.active AND o.service_id = $1 AND ($2::uuid IS NULL OR m.id = $2)
"""
_BUSY: Final = """
SELECT staff_id::text, lower(during) AS starts_at, upper(during) AS ends_at FROM appointments
 WHERE status = 'booked' AND staff_id = ANY($1::uuid[]) AND during && tstzrange($2, $3)
 UNION ALL
SELECT staff_id::text, greatest(lower(during), $2), least(upper(during), $3) FROM time_off
 WHERE staff_id = ANY($1::uuid[]) AND during && tstzrange($2, $3)
"""
_INSERT: Final = """
WITH booked AS (
    INSERT INTO appointments (service_id, staff_id, customer_id, email, customer_name, pet_name, note, starts_at,
                              ends_at, correlation_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id),
event AS (
    INSERT INTO appointment_events (appointment_id, status, reason, actor, correlation_id)
    SELECT id, 'booked', 'booked', $11, $10 FROM booked)
SELECT id::text FROM booked
"""
_NOTE: Final = """
INSERT INTO appointment_events (appointment_id, status, reason, actor, correlation_id) VALUES ($1, $2, $3, $4, $5)
"""
# Whoever booked or moved it when less than that was left needs no reminder of that kind.
_DUE: Final = """
INSERT INTO appointment_reminders (appointment_id, hours, starts_at)
SELECT a.id, kind.hours, a.starts_at
  FROM appointments a CROSS JOIN (VALUES (24, 2), (2, 0)) AS kind (hours, until)
 WHERE a.status = 'booked'
   AND a.starts_at <= now() + kind.hours * interval '1 hour' AND a.starts_at > now() + kind.until * interval '1 hour'
   AND a.changed_at <= a.starts_at - kind.hours * interval '1 hour'
   -- Those noted before must not use up the limit, or a full day of them would hide the rest.
   AND NOT EXISTS (SELECT FROM appointment_reminders r
                    WHERE r.appointment_id = a.id AND r.hours = kind.hours AND r.starts_at = a.starts_at)
 ORDER BY a.starts_at LIMIT $1
    ON CONFLICT DO NOTHING
RETURNING appointment_id::text, hours, starts_at
"""


_AVAILABILITY: Final = """
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'id', s.id, 'slug', s.slug, 'title', s.title, 'description', s.description,
                   'duration_minutes', s.duration_minutes, 'policy_hours', s.policy_hours, 'active', s.active,
                   'price', jsonb_build_object('amount', s.price, 'currency', s.currency)) ORDER BY s.title), '[]')
          FROM bookable_services s) AS services,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'id', m.id, 'name', m.name, 'time_zone', m.time_zone, 'active', m.active,
                   'service_ids', (SELECT coalesce(jsonb_agg(o.service_id ORDER BY o.service_id), '[]')
                                     FROM staff_services o WHERE o.staff_id = m.id),
                   'hours', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                        'weekday', h.weekday, 'opens', to_char(h.opens, 'HH24:MI'),
                                        'closes', to_char(h.closes, 'HH24:MI')) ORDER BY h.weekday, h.opens), '[]')
                               FROM opening_hours h WHERE h.staff_id = m.id),
                   'time_off', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                           'starts_at', lower(t.during), 'ends_at', upper(t.during),
                                           'reason', t.reason) ORDER BY lower(t.during)), '[]')
                                  FROM time_off t WHERE t.staff_id = m.id)) ORDER BY m.name, m.id), '[]')
          FROM staff_members m) AS members
"""
_PUT_MEMBER: Final = """
WITH service AS (INSERT INTO staff_services (staff_id, service_id) SELECT $1, * FROM unnest($2::uuid[])),
hours AS (
    INSERT INTO opening_hours (staff_id, weekday, opens, closes)
    SELECT $1, h.weekday, h.opens::time, h.closes::time
      FROM unnest($3::int[], $4::text[], $5::text[]) AS h (weekday, opens, closes))
INSERT INTO time_off (staff_id, during, reason)
SELECT $1, tstzrange(t.starts_at, t.ends_at), t.reason
  FROM unnest($6::timestamptz[], $7::timestamptz[], $8::text[]) AS t (starts_at, ends_at, reason)
"""


async def services(connection: Connection) -> list[dict[str, Any]]:
    """What is offered, by title."""
    rows = await connection.fetch(
        """
        SELECT id::text, slug, title, description, duration_minutes,
               jsonb_build_object('amount', price, 'currency', currency) AS price
          FROM bookable_services WHERE active ORDER BY title
        """
    )
    return [dict(row) for row in rows]


async def service(connection: Connection, service_id: str) -> BookableService | None:
    """A service by id, also one that is no longer offered."""
    row = await connection.fetchrow(
        "SELECT id::text, title, duration_minutes, policy_hours, active FROM bookable_services WHERE id = $1",
        service_id,
    )
    if row is None:
        return None
    duration, policy = timedelta(minutes=row["duration_minutes"]), timedelta(hours=row["policy_hours"])
    return BookableService(row["id"], row["title"], duration, policy, row["active"])


async def members(connection: Connection, service_id: str, staff_id: str | None = None) -> list[StaffMember]:
    """Who does a service, or whether one of them does, with their opening hours."""
    return [
        StaffMember(row["id"], row["name"], row["time_zone"], tuple(_hours(*each) for each in row["hours"]))
        for row in await connection.fetch(_MEMBERS, service_id, staff_id)
    ]


def _hours(weekday: int, opens: str, closes: str) -> OpeningHours:
    return OpeningHours(weekday, _time(opens), _time(closes))


def _time(text: str) -> Any:
    return datetime.strptime(text, "%H:%M:%S").time()  # noqa: DTZ007 - a time of day on a wall clock


async def busy(connection: Connection, staff_ids: list[str], span: Span) -> dict[str, list[Span]]:
    """When members are booked or away, as far as it touches `span`."""
    taken: dict[str, list[Span]] = {staff_id: [] for staff_id in staff_ids}
    for row in await connection.fetch(_BUSY, staff_ids, span.starts_at, span.ends_at):
        taken[row["staff_id"]].append(Span(row["starts_at"], row["ends_at"]))
    return taken


async def away(connection: Connection, staff_id: str, span: Span) -> bool:
    """Whether a member has time off in `span`."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM time_off WHERE staff_id = $1 AND during && tstzrange($2, $3))",
            staff_id,
            span.starts_at,
            span.ends_at,
        )
    )


async def lock_staff(connection: Connection, staff_id: str) -> None:
    """Bookings of one member wait for each other here, instead of finding one another in the exclusion constraint.

    Two that wait there can wait for each other.
    """
    await connection.execute("SELECT FROM staff_members WHERE id = $1 FOR NO KEY UPDATE", staff_id)


async def insert(connection: Connection, new: dict[str, Any], actor: str) -> str:
    """Books; the id. Raises asyncpg's `ExclusionViolationError` when the time is taken."""
    return str(
        await connection.fetchval(
            _INSERT,
            new["service_id"],
            new["staff_id"],
            new["customer_id"],
            new["email"],
            new["customer_name"],
            new["pet_name"],
            new["note"],
            new["starts_at"],
            new["ends_at"],
            correlation_id(),
            actor,
        )
    )


async def find(connection: Connection, appointment_id: str, *, lock: bool = False) -> Appointment | None:
    """An appointment by id; with `lock`, nobody else changes it until the transaction ends."""
    suffix = " FOR UPDATE OF a" if lock else ""
    row = await connection.fetchrow(f"{_APPOINTMENT} WHERE a.id = $1{suffix}", appointment_id)
    return _appointment(row) if row else None


async def of_customer(connection: Connection, customer_id: str, after: str | None, limit: int) -> list[Appointment]:
    """Up to `limit` appointments of a customer, booked last first, from behind `after`."""
    rows = await connection.fetch(
        f"{_APPOINTMENT} WHERE a.customer_id = $1 AND ($2::uuid IS NULL OR a.id < $2) ORDER BY a.id DESC LIMIT $3",
        customer_id,
        after,
        limit,
    )
    return [_appointment(row) for row in rows]


async def listed(connection: Connection, narrowed: Sequence[Any], after: str | None, limit: int) -> list[Appointment]:
    """Up to `limit` appointments, booked last first, from behind `after`.

    `narrowed` holds since, until, member and status; None does not narrow.
    """
    rows = await connection.fetch(
        f"""
        {_APPOINTMENT}
         WHERE ($1::timestamptz IS NULL OR a.starts_at >= $1) AND ($2::timestamptz IS NULL OR a.starts_at < $2)
           AND ($3::uuid IS NULL OR a.staff_id = $3) AND ($4::text IS NULL OR a.status = $4)
           AND ($5::uuid IS NULL OR a.id < $5)
         ORDER BY a.id DESC LIMIT $6
        """,
        *narrowed,
        after,
        limit,
    )
    return [_appointment(row) for row in rows]


async def availability(connection: Connection) -> Mapping[str, Any]:
    """Services and members as JSON values."""
    row: Any = await connection.fetchrow(_AVAILABILITY)
    return dict(row)


async def put_service(connection: Connection, service: Mapping[str, Any]) -> str | None:
    """Puts a service in the place of the one with its id, or makes it; its id, None when there is none with it.

    Raises asyncpg's `UniqueViolationError` for a slug that is taken.
    """
    values = (
        service["slug"],
        service["title"],
        service["description"],
        service["duration_minutes"],
        service["price"]["amount"],
        service["price"]["currency"],
        service["policy_hours"],
        service["active"],
    )
    columns = "slug, title, description, duration_minutes, price, currency, policy_hours, active"
    if service["id"] is None:
        statement = (
            f"INSERT INTO bookable_services ({columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id::text"
        )
        made: str | None = await connection.fetchval(statement, *values)
        return made
    statement = (
        f"UPDATE bookable_services SET ({columns}) = ROW ($1, $2, $3, $4, $5, $6, $7, $8) WHERE id = $9 "
        "RETURNING id::text"
    )
    found: str | None = await connection.fetchval(statement, *values, service["id"])
    return found


async def put_member(connection: Connection, member: Mapping[str, Any]) -> str | None:
    """The same for a member, with what they do, their hours and when they are away.

    Raises asyncpg's `ForeignKeyViolationError` for a service that does not exist, `UniqueViolationError` for hours
    that begin twice.
    """
    values = (member["name"], member["time_zone"], member["active"])
    if member["id"] is None:
        statement = "INSERT INTO staff_members (name, time_zone, active) VALUES ($1, $2, $3) RETURNING id::text"
        member_id: str | None = await connection.fetchval(statement, *values)
    else:
        statement = "UPDATE staff_members SET name = $1, time_zone = $2, active = $3 WHERE id = $4 RETURNING id::text"
        member_id = await connection.fetchval(statement, *values, member["id"])
    if member_id is None:
        return None
    for table in ("staff_services", "opening_hours", "time_off"):
        await connection.execute(f"DELETE FROM {table} WHERE staff_id = $1", member_id)
    hours, away = member["hours"], member["time_off"]
    await connection.execute(
        _PUT_MEMBER,
        member_id,
        member["service_ids"],
        [each["weekday"] for each in hours],
        [each["opens"] for each in hours],
        [each["closes"] for each in hours],
        [each["starts_at"] for each in away],
        [each["ends_at"] for each in away],
        [each["reason"] for each in away],
    )
    return member_id


async def set_status(
    connection: Connection, appointment_id: str, status: AppointmentStatus, reason: str, actor: str
) -> None:
    """Ends an appointment that is booked; the caller holds its lock and has looked."""
    await connection.execute(
        """
        UPDATE appointments SET status = $2, sequence = sequence + 1, changed_at = now()
         WHERE id = $1 AND status = 'booked'
        """,
        appointment_id,
        status,
    )
    await connection.execute(_NOTE, appointment_id, status, reason, actor, correlation_id())


async def move(connection: Connection, appointment: Appointment, staff_id: str, span: Span, actor: str) -> None:
    """Moves a booked appointment; the caller holds its lock. Raises asyncpg's `ExclusionViolationError`."""
    await connection.execute(
        """
        UPDATE appointments
           SET staff_id = $2, starts_at = $3, ends_at = $4, sequence = sequence + 1, changed_at = now()
         WHERE id = $1 AND status = 'booked'
        """,
        appointment.id,
        staff_id,
        span.starts_at,
        span.ends_at,
    )
    reason = f"moved from {appointment.starts_at:%Y-%m-%dT%H:%MZ}"
    await connection.execute(_NOTE, appointment.id, AppointmentStatus.BOOKED, reason, actor, correlation_id())


async def due_reminders(connection: Connection, limit: int) -> list[tuple[str, int, datetime]]:
    """Notes up to `limit` reminders that are due and were not noted yet: appointment, hours before, start."""
    rows = await connection.fetch(_DUE, limit)
    return [(row["appointment_id"], row["hours"], row["starts_at"]) for row in rows]


def _appointment(row: Any) -> Appointment:
    return Appointment(**{**row, "status": AppointmentStatus(row["status"])})
