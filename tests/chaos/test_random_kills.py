"""Purchases while processes die at random: afterwards the books of everybody agree."""

import asyncio
import random
import uuid
from typing import Any

import pytest

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.ports import SERVICES
from deploy.local.system import System

BUYERS = 24
SEED = 7
VICTIMS = (*SERVICES, "valkey", "gateway", "stripe-sandbox")


@pytest.mark.long
async def test_the_books_agree_after_random_kills(system: System) -> None:
    """Charges = paid orders, stock on hand + sold = initial, nothing held, one mail per order."""
    observer = Observer(system.endpoints, system.state.logs)
    stock = "SELECT sum(on_hand)::bigint AS on_hand, sum(held)::bigint AS held FROM variants"
    (before,) = await observer.rows("catalog", stock)
    chance = random.Random(SEED)
    stop = asyncio.Event()
    killer = asyncio.create_task(_kill_at_random(system, chance, stop))
    bought = await asyncio.gather(*(_buy(system, chance.uniform(0, 12)) for _ in range(BUYERS)))
    stop.set()
    await killer

    queued = "SELECT count(*) FROM jobs WHERE state = 'queued' AND kind NOT LIKE 'schedule:%'"

    async def settled() -> bool:
        waiting = [await observer.value(name, queued) for name in SERVICES]
        pending = await observer.value("orders", "SELECT count(*) FROM orders WHERE status = 'pending'")
        return not any(waiting) and not pending

    await eventually(settled, "every job to be done", seconds=120)
    ledger = await observer.ledger()
    paid = await observer.rows("orders", "SELECT id::text, total, email FROM orders WHERE status = 'paid'")
    assert len(paid) == BUYERS == len({order["order_id"] for order in bought})
    assert {order["id"]: order["total"] for order in paid} == {
        order: account["charged"] for order, account in ledger["orders"].items() if account["charges"]
    }
    assert all(account["charges"] == 1 for account in ledger["orders"].values())
    (after,) = await observer.rows("catalog", stock)
    sold = await observer.value("catalog", "SELECT sum(quantity)::bigint FROM sales")
    assert (after["on_hand"] + sold, after["held"]) == (before["on_hand"], 0)
    for order in paid:
        assert len(await observer.messages(to=order["email"])) == 1
    for name in SERVICES:
        assert await observer.value(name, "SELECT count(*) FROM jobs WHERE state = 'parked'") == 0


async def _buy(system: System, delay: float) -> dict[str, Any]:
    await asyncio.sleep(delay)
    shopper = Shopper(system.endpoints)
    try:

        async def filled() -> bool:
            try:
                chosen = await shopper.choose()
                return (await shopper.add(chosen["variant"]["id"], 1)).status_code == 201
            except Exception:  # noqa: BLE001 - a customer whose page does not load tries again, whatever it was
                return False

        await eventually(filled, "the cart", seconds=60)
        checkout = await shopper.checkout_until_answered(str(uuid.uuid4()))

        async def paid() -> bool:
            try:
                return (await shopper.pay(checkout)).status_code in {200, 400}
            except Exception:  # noqa: BLE001
                return False

        await eventually(paid, "the payment", seconds=60)
        await shopper.wait_for(checkout, "paid", seconds=120)
        return checkout
    finally:
        await shopper.close()


async def _kill_at_random(system: System, chance: random.Random, stop: asyncio.Event) -> None:
    while not stop.is_set():
        victim = chance.choice(VICTIMS)
        await asyncio.to_thread(_kill, system, victim)
        try:
            await asyncio.wait_for(stop.wait(), chance.uniform(0.5, 1.5))
        except TimeoutError:
            continue


def _kill(system: System, victim: str) -> None:
    system.wait_until_ready(victim, not_pid=system.kill(victim))
