"""kill -9 of any one service during the purchase loses nothing once it is back."""

import asyncio
import uuid

import pytest

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.ports import SERVICES
from deploy.local.probes import until_routed
from deploy.local.system import System
from deploy.local.topology import ROUTED


@pytest.mark.parametrize("service", SERVICES)
async def test_a_killed_service_loses_nothing(
    system: System, shopper: Shopper, observer: Observer, service: str
) -> None:
    """Killed while the order is placed and again while the payment arrives: one order, charge, movement, mail."""
    chosen = await shopper.choose(at_least=2)
    variant = chosen["variant"]["id"]
    stock, held = await observer.on_hand(variant)
    (await shopper.add(variant, 2)).raise_for_status()

    placing = asyncio.create_task(shopper.checkout_until_answered(str(uuid.uuid4())))
    await asyncio.sleep(0.02)  # somewhere in the middle of it; where exactly must not matter
    await asyncio.to_thread(_kill, system, service)
    checkout = await placing

    (await shopper.pay(checkout)).raise_for_status()
    await asyncio.to_thread(_kill, system, service)
    await shopper.wait_for(checkout, "paid", seconds=60)

    async def mailed() -> bool:
        return len(await observer.messages(to=shopper.email)) > 0

    await eventually(mailed, "the confirmation", seconds=60)
    query = """
        SELECT count(*) FROM jobs
         WHERE state IN ('queued', 'running') AND kind NOT LIKE 'schedule:%' AND run_at <= now()
    """

    async def idle() -> bool:
        return not [name for name in SERVICES if await observer.value(name, query)]

    await eventually(idle, "the last jobs", seconds=60)
    account = (await observer.ledger())["orders"][checkout["order_id"]]
    orders = await observer.value("orders", "SELECT count(*) FROM orders WHERE email = $1", shopper.email)
    assert (orders, account["charges"], account["charged"]) == (1, 1, checkout["total"]["amount"])
    assert await observer.on_hand(variant) == (stock - 2, held)
    assert len(await observer.messages(to=shopper.email)) == 1
    # The gateway looks once a second who is back: what is tested next must not meet its 503.
    await until_routed(system.ports.of("gateway"), ROUTED)


def _kill(system: System, service: str) -> None:
    system.wait_until_ready(service, not_pid=system.kill(service))
