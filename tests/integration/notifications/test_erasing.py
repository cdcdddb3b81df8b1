"""Erasing a customer in the moment somebody else tells of them: whoever has not seen the tombstone is waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from holdfast.notifications.v1 import notifications_pb2 as pb
from tests.integration.notifications.support import Office, customer
from tests.integration.notifications.test_orders import ORDER, sold

CUSTOMER = str(UUID(int=1))
ERASURE = pb.RecordCustomerErasedRequest(customer_id=CUSTOMER, email="ada@example.com")
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
# What makes a statement wait that has looked for a tombstone already: a row that may come to have its key.
_SAME_ORDER = (
    "INSERT INTO purchases (order_id, buyer, total, paid_at) VALUES ($1, 'eve@example.com', 1, now())",
    UUID(ORDER),
)
_SAME_CUSTOMER = (
    """
    INSERT INTO contacts (id, email, name, marketing_consent, changed_at)
    VALUES ($1, 'eve@example.com', 'Eve', true, now())
    """,
    UUID(CUSTOMER),
)


@pytest.mark.parametrize(
    ("name", "request_", "in_the_way"),
    [
        ("RecordOrderPaid", sold(), _SAME_ORDER),
        ("RecordOrderPaid", sold(""), _SAME_ORDER),
        ("RecordCustomerChanged", customer(), _SAME_CUSTOMER),
    ],
    ids=["a purchase and its mail", "a purchase", "a contact"],
)
async def test_what_was_being_written_is_forgotten_too(
    office: Office, until: Until, name: str, request_: Any, in_the_way: tuple[str, UUID]
) -> None:
    """It has found no tombstone and is not committed yet: erasing ends behind it, and takes it along."""
    erased: list[asyncio.Task[Any]] = []

    async def waiting(number: int) -> bool:
        (row,) = await office.rows(_WAITING)
        return row["count"] >= number or any(task.done() for task in erased)

    block, blocked = asyncio.Event(), asyncio.Event()

    async def stand_in_the_way() -> None:
        async with office.runtime.database.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(*in_the_way)
            blocked.set()
            await block.wait()
            await transaction.rollback()

    blocker = asyncio.create_task(stand_in_the_way())
    await blocked.wait()
    telling = asyncio.create_task(getattr(office.stub, name)(request_))
    await until(lambda: waiting(1))
    erased.append(asyncio.create_task(office.stub.RecordCustomerErased(ERASURE)))
    await until(lambda: waiting(2))
    block.set()
    await asyncio.gather(blocker, telling, *erased)
    assert await office.rows("SELECT FROM purchases") == []
    assert await office.rows("SELECT FROM contacts") == []
