"""The health of the whole, for everybody to see."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from reliability import rpc
from services.admin.health.service import HealthService
from tests.integration.admin.support import Admin

SERVICES = ["accounts", "admin", "catalog", "notifications", "orders", "payments-webhooks"]


async def health(admin: Admin) -> dict[str, Any]:
    """The answer, without credentials and never from a cache on the way."""
    async with asyncio.timeout(7):
        answer = await admin.http.get("/api/health")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found: dict[str, Any] = answer.json()
    return found


async def until(admin: Admin, expected: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first answer that is as expected: on a busy machine a service may be down for not answering in a second."""
    async with asyncio.timeout(60):
        while not expected(found := await health(admin)):
            await asyncio.sleep(0.5)
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    """The services that are not `ok`."""
    return {name: service["status"] for name, service in found["services"].items() if service["status"] != "ok"}


async def test_all_is_well(admin: Admin) -> None:
    """Six services, each with the time it took to say so."""
    found = await until(admin, lambda found: found["status"] == "ok")
    assert (found["degraded"], list(found["services"])) == ([], SERVICES)
    assert all(
        service == {"status": "ok", "ms": service["ms"], "without": []} for service in found["services"].values()
    )
    assert all(service["ms"] >= 0 for service in found["services"].values())


@pytest.mark.parametrize("fault", ["refuse", "hang"])
@pytest.mark.parametrize("service", [name for name in SERVICES if name != "admin"])
async def test_a_service_that_is_away_is_down(admin: Admin, service: str, fault: str) -> None:
    """Named, and still 200: that is admin's own answer."""
    getattr(admin.others[service].proxy, fault)()
    found = await until(admin, lambda found: states(found) == {service: "down"})
    assert (found["status"], found["degraded"]) == ("degraded", [service])


async def test_what_admin_can_do_without_is_said(admin: Admin) -> None:
    """Without the cache it is degraded; without the database it is down, and says so all the same."""
    admin.valkey.refuse()
    found = await health(admin)
    assert found["services"]["admin"]["status"] == "degraded"
    assert found["services"]["admin"]["without"] == ["redis"]


async def test_without_its_database_admin_is_down(admin: Admin) -> None:
    """The answer comes from the process, not from the database."""
    admin.postgres.refuse()
    found = await until(admin, lambda found: states(found) == {"admin": "down"})
    assert found["services"]["admin"]["without"] == ["postgres"]


async def test_a_service_that_drains_is_down(admin: Admin) -> None:
    """It still answers, and wants no more work."""
    admin.runtime.readiness.draining = True
    await until(admin, lambda found: states(found) == {"admin": "down"})


async def test_an_answer_is_kept_for_two_seconds(admin: Admin) -> None:
    """Everybody may ask, and ask often: the services are asked every two seconds at most."""
    now = 100.0
    catalog = admin.others["catalog"]
    channel = rpc.channel(catalog.address, admin.runtime.tls)
    service = HealthService({"catalog": channel}, ("admin", admin.runtime.readiness), lambda: now)

    async def catalog_is() -> str:
        return (await service.report())["catalog"].status

    try:
        assert await catalog_is() == "ok"
        catalog.proxy.refuse()
        now = 102.0
        assert await catalog_is() == "ok"
        now = 102.1
        assert await catalog_is() == "down"
    finally:
        await channel.close()
