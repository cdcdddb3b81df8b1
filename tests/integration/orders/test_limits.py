"""How often somebody may click *order*."""

import asyncio
from collections import Counter

from tests.integration.orders.support import Orders


async def test_a_customer_orders_ten_times_at_once_and_then_waits(shop_orders: Orders) -> None:
    """Whoever is refused is told when to come back; others, at the same address too, are not held up."""
    variant, guest = await shop_orders.shop.variant(5), shop_orders.guest()
    await shop_orders.add(guest, variant)
    answers = await asyncio.gather(*(shop_orders.checkout(guest) for _ in range(30)))
    refused = [answer for answer in answers if answer.status_code == 429]
    # A slow machine gives one back every three seconds.
    assert refused
    assert len(answers) - len(refused) >= 10
    assert {answer.json()["code"] for answer in refused} == {"rate_limited"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert "r=0" in refused[0].headers["ratelimit"]
    assert Counter(answer.status_code for answer in answers)[201] >= 1
    await shop_orders.buy(shop_orders.guest(), variant)


async def test_one_address_places_three_hundred_carts_and_then_waits(shop_orders: Orders) -> None:
    """A new cart for each stolen card does not help. Empty carts are counted as well."""
    stranger = shop_orders.guest()
    stranger.headers["X-Client-Address"] = "203.0.113.9"
    statuses: Counter[int] = Counter()
    while not statuses[429] and statuses.total() < 2000:
        answers = await asyncio.gather(*(shop_orders.checkout(stranger) for _ in range(50)))
        statuses.update(answer.status_code for answer in answers)
    assert statuses[429]
    assert statuses.total() - statuses[429] >= 300
    await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(5))


async def test_without_the_cache_orders_are_taken(shop_orders: Orders) -> None:
    """The limit protects us, the order is what we are here for."""
    variant, guest = await shop_orders.shop.variant(5), shop_orders.guest()
    shop_orders.runtime.cache.breaker.force_open()
    await shop_orders.buy(guest, variant)
