"""Staff make and end coupons, book and move appointments, and say who works when; each write is audited."""

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.integration.orders.support import Orders, key
from tests.integration.orders.test_appointments import book, free, service_id

COUPONS, APPOINTMENTS, AVAILABILITY = "/api/admin/coupons", "/api/admin/appointments", "/api/admin/availability"
COUPON = {"code": "autumn-15", "kind": "percentage", "value": 1500, "currency": "USD"}


async def actions(orders: Orders) -> list[str]:
    """What orders wrote down of staff's doings."""
    async with orders.runtime.database.connection() as connection:
        return [row["action"] for row in await connection.fetch("SELECT action FROM audit_entries ORDER BY id")]


async def test_a_coupon_from_its_making_to_its_end(shop_orders: Orders) -> None:
    """Made once per key and per code, it takes off what it says; used, it is switched off instead of deleted."""
    staff, header = shop_orders.staff(), key()
    answers = [await staff.post(COUPONS, json=COUPON, headers=header) for _ in range(2)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(201, "AUTUMN-15")] * 2
    assert answers[0].json() == answers[1].json()
    taken = await staff.post(COUPONS, json=COUPON, headers=key())
    assert (taken.status_code, taken.json()["code"]) == (409, "coupon_exists")
    path, guest = f"{COUPONS}/{answers[0].json()['id']}", shop_orders.guest()
    await shop_orders.add(guest, await shop_orders.shop.variant(price=1000), 2)
    assert (await guest.post("/api/cart/coupon", json={"code": "autumn-15"})).status_code == 200
    assert (await shop_orders.checkout(guest)).json()["discount"]["amount"] == 300
    (listed,) = (await staff.get(COUPONS)).json()["items"]
    assert (listed["redeemed"], listed["active"], listed["ends_at"]) == (1, True, None)
    assert (await staff.delete(path)).json()["code"] == "coupon_in_use"
    off = await staff.patch(path, json={"active": False, "total_limit": 5})
    assert (off.status_code, off.json()["active"], off.json()["total_limit"]) == (200, False, 5)
    again = shop_orders.guest()
    await shop_orders.add(again, await shop_orders.shop.variant(price=1000))
    assert (await again.post("/api/cart/coupon", json={"code": "AUTUMN-15"})).json()["code"] == "coupon_refused"
    unused = (await staff.post(COUPONS, json=COUPON | {"code": "NEVER"})).json()
    assert (await staff.delete(f"{COUPONS}/{unused['id']}")).status_code == 200
    assert (await staff.delete(f"{COUPONS}/{unused['id']}")).status_code == 404
    assert await actions(shop_orders) == ["coupon.created", "coupon.changed", "coupon.created", "coupon.deleted"]


@pytest.mark.parametrize(
    "change",
    [
        {"code": "no"},
        {"code": "has space"},
        {"kind": "gift"},
        {"value": 0},
        {"value": -5},
        {"value": 10_001},
        {"value": 2**63 - 1},
        {"value": 2**63},
        {"value": "15"},
        {"currency": "usd"},
        {"minimum": -1},
        {"total_limit": 0},
        {"per_customer_limit": 2**62},
        {"starts_at": "2026-12-01T00:00:00Z", "ends_at": "2026-11-01T00:00:00Z"},
        {"starts_at": "soon"},
    ],
)
async def test_a_bad_coupon_is_refused(shop_orders: Orders, change: dict[str, Any]) -> None:
    """422, and nothing is written."""
    answer = await shop_orders.staff().post(COUPONS, json=COUPON | change)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
    assert await shop_orders.value("SELECT count(*) FROM coupons") == 0
    assert await actions(shop_orders) == []


async def test_staff_book_move_and_end(shop_orders: Orders) -> None:
    """Against a customer one of both gets the slot; inside the customer's window staff still move and cancel."""
    staff, slots = shop_orders.staff(), await free(shop_orders)
    slot = slots[0]
    body = {
        "service_id": await service_id(shop_orders),
        "member_id": slot["staff_id"],
        "starts_at": slot["starts_at"],
        "email": "kim@example.com",
        "customer_name": "Kim",
    }
    header = key()
    mine, theirs = await asyncio.gather(
        staff.post(APPOINTMENTS, json=body, headers=header), book(shop_orders, shop_orders.customer(), slot)
    )
    assert sorted((mine.status_code, theirs.status_code)) == [201, 409]
    if mine.status_code == 409:
        body["starts_at"] = next(each["starts_at"] for each in await free(shop_orders))
        body["member_id"] = next(each["staff_id"] for each in await free(shop_orders))
        mine = await staff.post(APPOINTMENTS, json=body, headers=key())
    booked = mine.json()
    await shop_orders.execute("UPDATE bookable_services SET policy_hours = 24 * 30")
    target = next(each for each in await free(shop_orders) if each["starts_at"] > slot["ends_at"])
    path = f"{APPOINTMENTS}/{booked['id']}"
    moved = await staff.patch(path, json={"starts_at": target["starts_at"], "member_id": target["staff_id"]})
    assert (moved.status_code, moved.json()["starts_at"]) == (200, target["starts_at"])
    for bad in ({}, {"status": "booked"}, {"status": "cancelled", "starts_at": target["starts_at"]}, {"status": "x"}):
        assert (await staff.patch(path, json=bad)).status_code == 422, bad
    ended = await staff.patch(path, json={"status": "cancelled", "reason": "Jordan is ill."})
    assert ended.json()["status"] == "cancelled"
    assert (await staff.patch(path, json={"status": "no_show"})).json()["code"] == "appointment_ended"
    await shop_orders.settle()
    told = [mail for mail in (await shop_orders.mails()).values() if mail.to == "kim@example.com"]
    assert [(mail.template, mail.data.get("reason")) for mail in told] == [("appointment_cancelled", "Jordan is ill.")]
    listed = (await staff.get(APPOINTMENTS, params={"status": "cancelled"})).json()["items"]
    assert [item["id"] for item in listed] == [booked["id"]]
    assert (await actions(shop_orders))[-2:] == ["appointment.moved", "appointment.cancelled"]
    for unknown in (str(uuid.uuid4()), "nonsense"):
        assert (await staff.patch(f"{APPOINTMENTS}/{unknown}", json={"status": "no_show"})).status_code == 404


async def test_who_works_when(shop_orders: Orders) -> None:
    """What is put is what is read and what is offered; a time away takes slots, what is booked stays booked."""
    staff = shop_orders.staff()
    before = (await staff.get(AVAILABILITY)).json()
    again = await staff.put(AVAILABILITY, json={"services": before["services"], "members": before["members"]})
    assert (again.status_code, again.json()) == (200, before)
    slot = (await free(shop_orders))[0]
    booked = (await book(shop_orders, shop_orders.customer(), slot)).json()
    member = next(each for each in before["members"] if each["id"] == slot["staff_id"])
    start = datetime.fromisoformat(slot["starts_at"]) - timedelta(hours=1)
    away = {"starts_at": start.isoformat(), "ends_at": (start + timedelta(days=30)).isoformat(), "reason": "Holiday"}
    changed = await staff.put(AVAILABILITY, json={"members": [{**member, "time_off": [away]}]})
    assert changed.status_code == 200, changed.text
    assert member["id"] not in {each["staff_id"] for each in await free(shop_orders)}
    assert await shop_orders.value("SELECT status FROM appointments WHERE id = $1", booked["id"]) == "booked"
    new = {"name": "Alex", "time_zone": "Europe/Berlin", "active": True, "service_ids": member["service_ids"]}
    hours = [{"weekday": day, "opens": "09:00", "closes": "17:00"} for day in range(1, 8)]
    assert (await staff.put(AVAILABILITY, json={"members": [{**new, "hours": hours}]})).status_code == 200
    assert "Europe/Berlin" in {each["time_zone"] for each in await free(shop_orders)}
    bad: list[dict[str, Any]] = [
        {"time_zone": "Moon/Base"},
        {"hours": [{"weekday": 8, "opens": "09:00", "closes": "17:00"}]},
        {"hours": [{"weekday": 1, "opens": "17:00", "closes": "09:00"}]},
        {"hours": [{"weekday": 1, "opens": "25:00", "closes": "26:00"}]},
        {"hours": hours[:1] * 2},
        {"service_ids": [str(uuid.uuid4())]},
        {"service_ids": ["x"]},
        {"time_off": [{"starts_at": away["ends_at"], "ends_at": away["starts_at"]}]},
    ]
    for wrong in bad:
        answer = await staff.put(AVAILABILITY, json={"members": [{**new, "hours": hours, **wrong}]})
        assert answer.status_code == 422, (wrong, answer.text)
    assert (await staff.put(AVAILABILITY, json={"members": [{**new, "id": str(uuid.uuid4())}]})).status_code == 404
    assert await shop_orders.value("SELECT count(*) FROM staff_members WHERE name = 'Alex'") == 1


async def test_a_service_is_no_longer_offered(shop_orders: Orders) -> None:
    """Nobody sees or books it; who has booked it already may still move and cancel."""
    staff, customer = shop_orders.staff(), shop_orders.customer()
    service, slots = await service_id(shop_orders), await free(shop_orders)
    booked = (await book(shop_orders, customer, slots[0])).json()
    (known,) = [each for each in (await staff.get(AVAILABILITY)).json()["services"] if each["id"] == service]
    assert known["active"] is True
    withdrawn = await staff.put(AVAILABILITY, json={"services": [{**known, "active": False}]})
    assert withdrawn.status_code == 200, withdrawn.text
    asked = {"service_id": service, "from": slots[0]["starts_at"][:10]}
    assert (await customer.get("/api/appointments/slots", params=asked)).status_code == 404
    assert service not in (await customer.get("/api/appointments/services")).text
    assert (await book(shop_orders, customer, slots[-1])).status_code == 404
    path, moved = f"/api/me/appointments/{booked['id']}", {name: slots[-1][name] for name in ("starts_at", "staff_id")}
    assert (await customer.post(f"{path}/reschedule", json=moved)).status_code == 200
    assert (await customer.post(f"{path}/cancel")).status_code == 200
    again = await staff.put(AVAILABILITY, json={"services": [{**known, "active": True}]})
    assert again.status_code == 200
    assert service in (await customer.get("/api/appointments/services")).text
