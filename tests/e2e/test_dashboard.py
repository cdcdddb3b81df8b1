"""What staff see first, from the figures of every service, also while one of them hangs."""

import signal
from typing import Any

import pytest

from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.system import System

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


async def _dashboard(staff: Staff) -> dict[str, Any]:
    answer = await staff.http.get("/api/admin/dashboard")
    assert answer.status_code == 200
    figures: dict[str, Any] = answer.json()
    assert set(figures) == FIELDS
    return figures


async def test_a_purchase_shows_on_the_dashboard(shopper: Shopper, staff: Staff) -> None:
    """Pending when it is placed; an order and its total once it is paid."""
    before = await _dashboard(staff)
    assert before["degraded"] == []
    variant = (await shopper.choose(at_least=1))["variant"]["id"]
    await shopper.add(variant, 1)
    checkout = (await shopper.checkout()).json()
    placed = await _dashboard(staff)
    assert placed["pending_orders"] == before["pending_orders"] + 1
    await shopper.pay(checkout)
    await shopper.wait_for(checkout, "paid")

    async def counted() -> bool:
        return bool((await _dashboard(staff))["orders_today"] == before["orders_today"] + 1)

    await eventually(counted, "the order on the dashboard")
    after = await _dashboard(staff)
    earned = after["revenue_today"]["amount"] - before["revenue_today"]["amount"]
    assert (earned, after["revenue_today"]["currency"]) == (checkout["total"]["amount"], checkout["total"]["currency"])
    assert after["pending_orders"] == before["pending_orders"]


@pytest.mark.parametrize(
    ("service", "unknown"),
    [
        ("orders", {"orders_today", "revenue_today", "revenue_by_currency", "pending_orders", "open_incidents"}),
        ("payments-webhooks", {"parked_webhooks", "open_incidents"}),
        ("notifications", {"failed_emails", "open_incidents"}),
    ],
)
async def test_a_service_that_hangs_is_named_and_its_figures_are_unknown(
    system: System, staff: Staff, service: str, unknown: set[str]
) -> None:
    """Not zero, which would look like good news; the others' figures stay."""
    system.kill(service, signal.SIGSTOP)
    try:
        figures = await _dashboard(staff)
    finally:
        system.kill(service, signal.SIGCONT)
    assert figures["degraded"] == [service]
    assert {name for name, value in figures.items() if value is None} == unknown

    async def back() -> bool:
        return not (await _dashboard(staff))["degraded"]

    await eventually(back, f"{service} on the dashboard again")


async def test_the_dashboard_is_for_staff(shopper: Shopper) -> None:
    """A guest is not let in, with a broken token neither."""
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = await shopper.http.get("/api/admin/dashboard", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
