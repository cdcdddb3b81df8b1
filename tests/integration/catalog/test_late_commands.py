"""Commands of one order in any order of arrival, each as often as it likes: what catalog has said once stays true.

A call may be on the wire longer than the job that made it lives, and arrive when the order is settled otherwise.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import pytest

from reliability.errors import Problem
from services.catalog.stock.domain import HoldKey, Line
from services.catalog.stock.errors import HoldLost, HoldReleased
from tests.integration.catalog.support import TTL, Shop, new_key

ON_HAND: Final = 3
PIECES: Final = 2
"""Of the order and of its rival: the shelf has enough for one of them."""
SOLD, RETURNED = "sold", "returned"


@dataclass
class Order:
    """An order for the last pieces of a variant, a rival for the same, and what catalog has said of the order's end."""

    shop: Shop
    variant: UUID
    key: HoldKey = field(default_factory=new_key)
    rival: HoldKey | None = None
    words: frozenset[str] = frozenset()

    async def hold(self) -> None:
        await self.shop.stock.hold(self.key, [Line(self.variant, PIECES)], TTL)

    async def extend(self) -> None:
        await self.shop.stock.extend(self.key, TTL)

    async def commit(self) -> None:
        try:
            await self.shop.stock.commit(self.key, None)
        except HoldLost:
            self.words |= {RETURNED}  # orders sends the money back
            raise
        self.words |= {SOLD}

    async def release(self) -> None:
        await self.shop.stock.release(self.key)
        self.words |= {RETURNED}

    async def expire(self) -> None:
        await self.shop.expire(self.key)

    async def rival_takes(self) -> None:
        rival = new_key()
        await self.shop.stock.hold(rival, [Line(self.variant, PIECES)], TTL)
        self.rival = rival

    async def rival_gives_back(self) -> None:
        if self.rival is not None:
            await self.shop.stock.release(self.rival)
            self.rival = None

    async def seen(self) -> tuple[object, ...]:
        """All that the next command's answer can depend on."""
        return await self.shop.state(self.key), self.rival is not None, self.words, await self.sold()

    async def sold(self) -> int:
        rows = await self.shop.fetch("SELECT quantity FROM sales WHERE order_id = $1", self.key.order_id)
        return sum(row["quantity"] for row in rows)

    async def assert_kept(self, story: tuple[str, ...]) -> None:
        """The shelf is what was said, whatever came before and after."""
        sold, (on_hand, held) = await self.sold(), await self.shop.counts(self.variant)
        state = await self.shop.state(self.key)
        assert self.words in ({SOLD}, {RETURNED}, frozenset()), story
        assert sold == (PIECES if self.words == {SOLD} else 0), story
        assert on_hand + sold == ON_HAND, story
        assert held == PIECES * ((state == "held") + (self.rival is not None)), story
        assert self.words != {RETURNED} or state == "released", story


COMMANDS: Final[dict[str, Callable[[Order], Awaitable[None]]]] = {
    "HoldStock": Order.hold,
    "ExtendHold": Order.extend,
    "CommitStock": Order.commit,
    "ReleaseStock": Order.release,
    "the backstop": Order.expire,
    "a rival's HoldStock": Order.rival_takes,
    "a rival's ReleaseStock": Order.rival_gives_back,
}


async def _told(shop: Shop, story: tuple[str, ...]) -> Order:
    """An order to which all this happened, one after the other."""
    order = Order(shop, await shop.variant(ON_HAND))
    for command in story:
        try:
            await COMMANDS[command](order)
        except Problem as refused:
            assert refused.status == 409 or command == "ExtendHold", story  # noqa: PT017 - no other refusal is foreseen
        await order.assert_kept((*story, command))
    return order


async def test_every_order_of_arrival(shop: Shop) -> None:
    """From each state that any sequence leads to, each command is sent: sold stays sold, returned stays returned.

    No sequence is left out: one that leads to a state known already goes on as the one that came there first.
    """
    known = {await (await _told(shop, ())).seen()}
    stories: list[tuple[str, ...]] = [()]
    for story in stories:  # it grows as we go
        for command in COMMANDS:
            longer = (*story, command)
            seen = await (await _told(shop, longer)).seen()
            if seen not in known:
                known.add(seen)
                stories.append(longer)
    await shop.assert_books_balance()
    assert {seen[0] for seen in known} == {None, "held", "expired", "released", "committed"}


async def test_a_late_commit_of_an_order_that_was_lost_sells_nothing(shop: Shop) -> None:
    """Orders was told hold_lost and sends the money back; then the shelf is full again, and a lost call arrives."""
    order = await _told(shop, ("HoldStock", "the backstop", "a rival's HoldStock"))
    with pytest.raises(HoldLost):
        await order.commit()
    await order.rival_gives_back()
    with pytest.raises(HoldLost):
        await order.commit()
    assert await shop.counts(order.variant) == (ON_HAND, 0)
    assert await order.sold() == 0


async def test_a_late_commit_of_an_order_that_was_cancelled_sells_nothing(shop: Shop) -> None:
    """What orders released is nobody's to sell."""
    order = await _told(shop, ("HoldStock", "ReleaseStock"))
    with pytest.raises(HoldLost):
        await order.commit()
    assert await shop.counts(order.variant) == (ON_HAND, 0)


async def test_a_late_hold_of_an_order_that_was_lost_takes_nothing(shop: Shop) -> None:
    """CommitStock overtook HoldStock and was told hold_lost: the pieces are not kept from others any more."""
    order = Order(shop, await shop.variant(ON_HAND))
    with pytest.raises(HoldLost):
        await order.commit()
    with pytest.raises(HoldReleased):
        await order.hold()
    assert await shop.counts(order.variant) == (ON_HAND, 0)
