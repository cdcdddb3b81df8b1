"""Nobody is booked twice, nothing is reminded of twice, and nobody's appointment is anybody else's."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from icalendar import Calendar

from services.orders.appointment import reminders
from services.orders.appointment.reminders import ReminderService
from tests.integration.orders.support import Orders, key


async def service_id(orders: Orders, slug: str = "bath-and-brush") -> str:
    return str(await orders.value("SELECT id::text FROM bookable_services WHERE slug = $1", slug))


async def free(orders: Orders, *, days_ahead: int = 3, slug: str = "bath-and-brush") -> list[dict[str, Any]]:
    """Slots from some days ahead on."""
    first = (datetime.now(UTC) + timedelta(days=days_ahead)).date()
    query = {"service_id": await service_id(orders, slug), "from": first.isoformat()}
    answer = await orders.guest().get("/api/appointments/slots", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def book(orders: Orders, client: httpx.AsyncClient, slot: dict[str, Any], **more: Any) -> httpx.Response:
    body = {
        "service_id": await service_id(orders),
        "staff_id": slot["staff_id"],
        "starts_at": slot["starts_at"],
        "pet_name": "Biscuit",
        **more,
    }
    return await client.post("/api/appointments", json=body, headers=key())


async def test_twenty_customers_want_one_slot(shop_orders: Orders) -> None:
    """One gets it, nineteen are told; half-overlapping times are taken too, and the slot is offered no more."""
    slots = await free(shop_orders)
    slot = slots[0]
    overlapping = next(
        each for each in slots if each["staff_id"] == slot["staff_id"] and each["starts_at"] > slot["starts_at"]
    )
    wanted = [slot, overlapping] * 10
    answers = await asyncio.gather(*(book(shop_orders, shop_orders.customer(), each) for each in wanted))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"slot_taken"}
    assert await shop_orders.value("SELECT count(*) FROM appointments") == 1
    won = next(answer.json() for answer in answers if answer.status_code == 201)
    left = [each for each in await free(shop_orders) if each["staff_id"] == slot["staff_id"]]
    assert not [each for each in left if won["starts_at"] < each["ends_at"] and each["starts_at"] < won["ends_at"]]
    assert len(left) < len([each for each in slots if each["staff_id"] == slot["staff_id"]])


async def test_one_click_books_once(shop_orders: Orders) -> None:
    """The same key at once and again: one appointment, one answer, one mail with one calendar file."""
    (slot, *_), customer, header = await free(shop_orders), shop_orders.customer(), key()
    body = {"service_id": await service_id(shop_orders), "staff_id": slot["staff_id"], "starts_at": slot["starts_at"]}
    answers = [await customer.post("/api/appointments", json=body, headers=header) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert (await customer.post("/api/appointments", json=body)).json()["code"] == "idempotency_key_missing"
    await shop_orders.work()
    (mail,) = (await shop_orders.mails()).values()
    assert (mail.template, mail.to) == ("appointment_booked", "robin@example.com")
    (event,) = Calendar.from_ical(mail.calendar_ics).events
    assert event.start == datetime.fromisoformat(slot["starts_at"])


async def test_moving_frees_the_old_time_and_takes_the_new(shop_orders: Orders) -> None:
    """A taken time refuses and changes nothing; each move is told once, with the time it was before."""
    slots = await free(shop_orders)
    mine, other = shop_orders.customer(), shop_orders.customer("kim")
    booked = (await book(shop_orders, mine, slots[0])).json()
    away = next(each for each in slots if each["starts_at"] >= booked["ends_at"])
    assert (await book(shop_orders, other, away)).status_code == 201
    path = f"/api/me/appointments/{booked['id']}/reschedule"
    refused = await mine.post(path, json={"starts_at": away["starts_at"], "staff_id": away["staff_id"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
    target = next(each for each in await free(shop_orders) if each["starts_at"] > away["ends_at"])
    moved = await mine.post(path, json={"starts_at": target["starts_at"], "staff_id": target["staff_id"]})
    assert (moved.status_code, moved.json()["starts_at"]) == (200, target["starts_at"])
    assert (await book(shop_orders, other, slots[0])).status_code == 201
    await shop_orders.work()
    told = [mail for mail in (await shop_orders.mails()).values() if mail.to == "robin@example.com"]
    assert [mail.template for mail in told] == ["appointment_moved"]  # the booking was overtaken before it was told


async def test_moves_into_each_other_end(shop_orders: Orders) -> None:
    """Two appointments that change places at the same instant: no deadlock, no double booking."""
    slots = await free(shop_orders)
    first = slots[0]
    second = next(
        each for each in slots if each["staff_id"] == first["staff_id"] and each["starts_at"] >= first["ends_at"]
    )
    mine, other = shop_orders.customer(), shop_orders.customer("kim")
    one, two = (await book(shop_orders, mine, first)).json(), (await book(shop_orders, other, second)).json()
    answers = await asyncio.gather(
        *(
            client.post(f"/api/me/appointments/{each['id']}/reschedule", json={"starts_at": to["starts_at"]})
            for client, each, to in ((mine, one, second), (other, two, first))
        )
    )
    assert {answer.status_code for answer in answers} == {409}
    assert {answer.json()["code"] for answer in answers} == {"slot_taken"}


async def test_cancelling_has_a_window(shop_orders: Orders) -> None:
    """Up to a day before; the second click finds it cancelled; the slot is free again and the mail takes it out."""
    (slot, *_), customer = await free(shop_orders), shop_orders.customer()
    booked = (await book(shop_orders, customer, slot)).json()
    path = f"/api/me/appointments/{booked['id']}/cancel"
    await shop_orders.execute("UPDATE bookable_services SET policy_hours = 24 * 30")
    refused = await customer.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_late")
    moved = await customer.post(path.replace("cancel", "reschedule"), json={"starts_at": slot["starts_at"]})
    assert moved.json()["code"] == "too_late"
    await shop_orders.execute("UPDATE bookable_services SET policy_hours = 24")
    for _ in range(2):
        assert (await customer.post(path)).json()["status"] == "cancelled"
    moved = await customer.post(path.replace("cancel", "reschedule"), json={"starts_at": slot["starts_at"]})
    assert moved.json()["code"] == "appointment_ended"
    assert (await book(shop_orders, shop_orders.customer("kim"), slot)).status_code == 201
    await shop_orders.work()
    (mail,) = [mail for mail in (await shop_orders.mails()).values() if mail.to == "robin@example.com"]
    (event,) = Calendar.from_ical(mail.calendar_ics).events
    assert (mail.template, event["status"], event["sequence"]) == ("appointment_cancelled", "CANCELLED", 1)


@pytest.mark.parametrize(("hours", "kinds"), [(25, []), (23.5, [24]), (1.5, [2])])
async def test_reminders_are_sent_once(shop_orders: Orders, hours: float, kinds: list[int]) -> None:
    """Four runs at once and two more: one mail per appointment, kind and time; moved, it is reminded of anew."""
    (slot, *_), customer = await free(shop_orders), shop_orders.customer()
    booked = (await book(shop_orders, customer, slot)).json()
    await shop_orders.work()
    await shop_orders.execute(
        "UPDATE appointments SET starts_at = now() + $1 * interval '1 hour', changed_at = now() - interval '3 days', "
        "ends_at = now() + ($1 + 1) * interval '1 hour'",
        hours,
    )
    reminded = await remind(shop_orders)
    assert reminded == [f"appointment-reminder:{booked['id']}:{kind}" for kind in kinds]
    await shop_orders.execute(
        "UPDATE appointments SET starts_at = starts_at - interval '1 minute' WHERE status = 'booked'"
    )
    assert len(await remind(shop_orders)) == 2 * len(kinds)
    await shop_orders.execute("UPDATE appointments SET status = 'cancelled', starts_at = starts_at + interval '1 s'")
    assert len(await remind(shop_orders)) == 2 * len(kinds)


async def remind(orders: Orders) -> list[str]:
    """Several runs at once, and the reminders that are out now, by their keys without the time."""
    service = ReminderService(orders.runtime.database, None)  # type: ignore[arg-type]
    await asyncio.gather(*(service.remind() for _ in range(4)))
    await service.remind()
    await orders.work()
    return sorted(
        ":".join(name.split(":")[:3]) for name in await orders.mails() if name.startswith("appointment-reminder")
    )


async def test_a_day_full_of_reminders_hides_no_other(shop_orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit a statement are noted already: the next one is reminded of all the same."""
    monkeypatch.setattr(reminders, "_BATCH", 1)
    first, second, *_ = await free(shop_orders)
    for hours, slot in ((20, first), (22, second)):
        booked = (await book(shop_orders, shop_orders.customer(f"robin{hours}"), slot)).json()
        await shop_orders.execute(
            """
            UPDATE appointments SET changed_at = now() - interval '3 days',
                   starts_at = now() + $2 * interval '1 hour', ends_at = now() + ($2 + 1) * interval '1 hour'
             WHERE id = $1
            """,
            booked["id"],
            hours,
        )
        assert f"appointment-reminder:{booked['id']}:24" in await remind(shop_orders)


async def test_who_books_late_is_not_reminded_of_the_past(shop_orders: Orders) -> None:
    """Booked two hours before: no mail says that it is tomorrow."""
    (slot, *_), customer = await free(shop_orders), shop_orders.customer()
    await book(shop_orders, customer, slot)
    await shop_orders.execute(
        "UPDATE appointments SET starts_at = now() + interval '110 minutes', ends_at = now() + interval '3 hours'"
    )
    assert await remind(shop_orders) == []


async def test_appointments_are_their_customers_own(shop_orders: Orders) -> None:
    """Listed to nobody else; anybody else's is 404, and who is not signed in gets 401."""
    (slot, *_), mine, other = await free(shop_orders), shop_orders.customer(), shop_orders.customer("kim")
    booked = (await book(shop_orders, mine, slot)).json()
    assert [item["id"] for item in (await mine.get("/api/me/appointments")).json()["items"]] == [booked["id"]]
    assert (await other.get("/api/me/appointments")).json()["items"] == []
    for identifier in (booked["id"], "nonsense", str(uuid.uuid4())):
        path = f"/api/me/appointments/{identifier}"
        assert (await other.post(f"{path}/cancel")).status_code == 404
        answer = await other.post(f"{path}/reschedule", json={"starts_at": slot["starts_at"]})
        assert answer.status_code == 404
    assert (await shop_orders.guest().get("/api/me/appointments")).status_code == 401
    assert (await book(shop_orders, shop_orders.guest(), slot)).status_code == 401


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("starts_at", "2026-13-01T00:00:00Z", 422),
        ("starts_at", "9999-12-31T23:59:59-12:00", 422),
        ("starts_at", "0001-01-01T00:00:00+14:00", 422),
        ("starts_at", "2020-01-01T09:00:00Z", 422),
        ("starts_at", "tomorrow", 422),
        ("starts_at", None, 422),
        ("service_id", "nonsense", 422),
        ("service_id", "01980000-0000-7000-8000-000000000001", 404),
        ("staff_id", "01980000-0000-7000-8000-000000000001", 422),
        ("pet_name", "x" * 101, 422),
        ("note", ["a"], 422),
    ],
)
async def test_a_bad_booking_is_refused(shop_orders: Orders, field: str, value: Any, status: int) -> None:
    """With its place, and nothing is written."""
    (slot, *_) = await free(shop_orders)
    answer = await book(shop_orders, shop_orders.customer(), slot, **{field: value})
    assert answer.status_code == status, answer.text
    assert await shop_orders.value("SELECT count(*) FROM appointments") == 0


async def test_only_real_slots_can_be_booked(shop_orders: Orders) -> None:
    """Not a minute off the grid, not in the night, not while the member is away."""
    (slot, *_), customer = await free(shop_orders), shop_orders.customer()
    start = datetime.fromisoformat(slot["starts_at"])
    for wrong in (start + timedelta(minutes=1), start + timedelta(hours=12)):
        answer = await book(shop_orders, customer, {**slot, "starts_at": wrong.isoformat()})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/starts_at")
    await shop_orders.execute(
        "INSERT INTO time_off (staff_id, during) VALUES ($1, tstzrange($2, $3))",
        slot["staff_id"],
        start,
        start + timedelta(days=1),
    )
    answer = await book(shop_orders, customer, slot)
    assert (answer.status_code, answer.json()["code"]) == (409, "slot_taken")
    assert slot not in await free(shop_orders)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"from": "2026-02-30"},
        {"from": "9999-12-31"},
        {"from": "0001-01-01"},
        {"days": "0"},
        {"days": "15"},
        {"days": "1e9"},
        {"service_id": "x"},
        {"nonsense": "1"},
    ],
)
async def test_a_bad_question_for_slots_is_refused(shop_orders: Orders, query: dict[str, str]) -> None:
    """422, never a server error."""
    good = {"service_id": await service_id(shop_orders), "from": datetime.now(UTC).date().isoformat()}
    values = {**good, **query} if query else {}
    answer = await shop_orders.guest().get("/api/appointments/slots", params=values)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
