"""Today at a glance, from the real services: what they know, and what nobody can say while one is away."""

import asyncio
from typing import Any

import pytest

from reliability.ids import new_id
from tests.integration.admin.conftest import MakeAdmin
from tests.integration.admin.support import DASHBOARD, Admin

FIELDS = {
    "orders_today",
    "revenue_today",
    "revenue_by_currency",
    "pending_orders",
    "failed_emails",
    "parked_webhooks",
    "open_incidents",
    "degraded",
}
OF = {
    "orders": {"orders_today", "revenue_today", "revenue_by_currency", "pending_orders", "open_incidents"},
    "payments-webhooks": {"parked_webhooks", "open_incidents"},
    "notifications": {"failed_emails", "open_incidents"},
}
PARKED_JOB = (
    "INSERT INTO jobs (kind, payload, state, attempt, max_attempts, finished_at) "
    "VALUES ('lost', '{}', 'parked', 5, 5, now())"
)


async def figures(admin: Admin) -> dict[str, Any]:
    """The dashboard, which always answers, and soon."""
    async with asyncio.timeout(7):  # the edge has 8 seconds, the parts two each
        answer = await admin.get(DASHBOARD)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == FIELDS
    return found


def unknown(found: dict[str, Any]) -> set[str]:
    """The fields that are null."""
    return {name for name, value in found.items() if value is None}


async def order(admin: Admin, *, paid: str | None, total: int = 1000, currency: str = "USD") -> None:
    """An order that is pending, or was paid at the SQL instant `paid`."""
    await admin.others["orders"].execute(
        "WITH cart AS (INSERT INTO carts DEFAULT VALUES RETURNING id) "
        "INSERT INTO orders (cart_id, status, email, shipping_address, shipping_method, currency, subtotal, discount, "
        "shipping, tax, total, hold_expires_at, correlation_id, created_at, paid_at) "
        "SELECT id, $1, 'a@example.com', '{}', 'standard', $2, $3, 0, 0, 0, $3, now(), 'flow', "
        f"coalesce({paid or 'NULL'}, now()), {paid or 'NULL'} FROM cart",
        "paid" if paid else "pending",
        currency,
        total,
    )


async def test_every_figure_comes_from_its_owner(admin: Admin) -> None:
    """What is placed today is counted, paid or not, what was placed yesterday is not; money stays in its currency."""
    before = await figures(admin)
    assert before["degraded"] == []
    midnight = "date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
    await order(admin, paid="now()", total=1999)
    await order(admin, paid=midnight, total=1)
    await order(admin, paid=f"{midnight} - interval '1 microsecond'", total=70_000)
    await order(admin, paid="now()", total=500, currency="EUR")
    await order(admin, paid=None)
    notifications, payments = admin.others["notifications"], admin.others["payments-webhooks"]
    await notifications.execute(
        'INSERT INTO emails (idempotency_key, fingerprint, category, "to", template, data, subject, html, text, '
        "message_id, state, attempts, correlation_id) "
        "VALUES ($1, '', 'transactional', 'a@example.com', 't', '{}', 's', '', '', $1, 'failed', 5, 'flow')",
        new_id(),
    )
    await payments.execute(
        "INSERT INTO inbox (source, event_id, event_type, object_key, body, state, finished_at) "
        "VALUES ('stripe', $1, 'x', 'pi_1', '', 'parked', now())",
        new_id(),
    )
    for part in (admin, notifications, payments, admin.others["orders"]):
        await part.execute(PARKED_JOB)
    after = await figures(admin)
    grown = {
        name: after[name] - before[name]
        for name in ("orders_today", "pending_orders", "failed_emails", "parked_webhooks", "open_incidents")
    }
    assert grown == {
        "orders_today": 4,
        "pending_orders": 1,
        "failed_emails": 1,
        "parked_webhooks": 1,
        "open_incidents": 4,
    }
    assert after["revenue_today"] == {"amount": before["revenue_today"]["amount"] + 2000, "currency": "USD"}
    earlier = {money["currency"]: money["amount"] for money in before["revenue_by_currency"]}
    assert after["revenue_by_currency"] == [
        {"amount": earlier.get("EUR", 0) + 500, "currency": "EUR"},
        {"amount": earlier.get("USD", 0) + 2000, "currency": "USD"},
    ]


async def test_a_shop_shows_its_own_currency_first(make_admin: MakeAdmin) -> None:
    """Nothing taken in it today is zero of it, not the sum of something else."""
    admin = await make_admin(shop_currency="CHF")
    assert (await figures(admin))["revenue_today"] == {"amount": 0, "currency": "CHF"}


@pytest.mark.parametrize("service", sorted(OF))
async def test_a_service_that_is_away_takes_only_its_own_figures(admin: Admin, service: str) -> None:
    """It is named; its figures are null, not zero, and everybody else's are there. Back again, so are they."""
    whole = await figures(admin)
    admin.others[service].proxy.refuse()
    found = await figures(admin)
    assert (found["degraded"], unknown(found)) == ([service], OF[service])
    known = FIELDS - OF[service] - {"degraded"}
    assert {name: found[name] for name in known} == {name: whole[name] for name in known}


@pytest.mark.parametrize("service", sorted(OF))
async def test_a_service_whose_database_is_away_is_away(admin: Admin, service: str) -> None:
    """It answers, but with an error: the same to who looks at the dashboard."""
    await figures(admin)
    admin.others[service].postgres.refuse()
    found = await figures(admin)
    assert (found["degraded"], unknown(found)) == ([service], OF[service])


async def test_everybody_may_hang_at_once(admin: Admin) -> None:
    """They are waited for together, not one after the other: the answer comes, and says that it knows nothing."""
    await figures(admin)
    for service in OF:
        admin.others[service].proxy.hang()
    found = await figures(admin)
    assert found["degraded"] == ["orders", "payments-webhooks", "notifications"]
    assert unknown(found) == FIELDS - {"degraded"}


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_admins_own_database_may_be_away_as_well(admin: Admin, fault: str) -> None:
    """Its silence costs no more than another's: only the sum of what waits for somebody is unknown."""
    await figures(admin)
    getattr(admin.postgres, fault)()
    found = await figures(admin)
    assert (found["degraded"], unknown(found)) == (["admin"], {"open_incidents"})


async def test_valkey_is_not_asked(admin: Admin) -> None:
    """The dashboard is whole without the cache."""
    admin.valkey.refuse()
    assert (await figures(admin))["degraded"] == []


async def test_services_nobody_asks_for_figures_may_be_away(admin: Admin) -> None:
    """Accounts, once its keys are known, and catalog have none here."""
    await figures(admin)
    for service in ("accounts", "catalog"):
        admin.others[service].proxy.refuse()
    assert (await figures(admin))["degraded"] == []
