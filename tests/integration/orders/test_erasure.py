"""A customer who is gone: what is over forgets them, what is going on is finished first."""

import uuid

from services.orders.erasure.service import ErasureService
from tests.integration.orders.support import Orders

_PERSONAL = ("quinn@example.com", "Quinn", "Elm Street", "Gresham", "97080", "Rex", "ring twice")
_HOME = {"name": "Quinn Doe", "line1": "1 Elm Street", "city": "Gresham", "postal_code": "97080", "region": "OR",
         "country": "US"}  # fmt: skip
_BOOK = """
INSERT INTO appointments (service_id, staff_id, customer_id, email, customer_name, pet_name, note, starts_at, ends_at,
                          status, correlation_id)
SELECT s.id, m.id, $1, 'quinn@example.com', 'Quinn Doe', 'Rex', 'ring twice', now() + $2 * interval '1 day',
       now() + $2 * interval '1 day' + interval '1 hour', 'booked', 'flow'
  FROM bookable_services AS s, staff_members AS m LIMIT 1
"""


async def forget(shop_orders: Orders, customer_id: str) -> bool:
    return await ErasureService(shop_orders.runtime.database).forget(customer_id)


async def remembered(shop_orders: Orders) -> set[tuple[str, str]]:
    """What is still in some table."""
    found = set()
    for table in ("orders", "carts", "appointments", "coupon_redemptions", "order_events", "appointment_events"):
        text = str(await shop_orders.value(f"SELECT string_agg(t::text, ' ') FROM {table} AS t"))
        found |= {(table, each) for each in _PERSONAL if each in text}
    return found


async def test_what_is_over_forgets_who_it_was_for(shop_orders: Orders) -> None:
    """A cancelled order and an appointment that was; figures, country and region stay."""
    customer_id = str(uuid.uuid4())
    quinn = shop_orders.customer("quinn", customer_id)
    order = await shop_orders.buy(
        quinn, await shop_orders.shop.variant(), email="quinn@example.com", shipping_address=_HOME, note="ring twice"
    )
    before = await shop_orders.value("SELECT total FROM orders WHERE id = $1", order["order_id"])
    await shop_orders.execute(_BOOK, customer_id, -3)
    await shop_orders.execute("UPDATE orders SET status = 'cancelled', stock = 'released'")
    assert await forget(shop_orders, customer_id) is False
    assert await remembered(shop_orders) == set()
    assert await shop_orders.value("SELECT total FROM orders") == before
    assert await shop_orders.value("SELECT shipping_address ->> 'country' FROM orders") == "US"
    assert await shop_orders.value("SELECT shipping_address ->> 'region' FROM orders") == "OR"


async def test_what_is_going_on_is_forgotten_when_it_is_over(shop_orders: Orders) -> None:
    """A parcel needs its address and a visit its name; somebody else's order is left alone."""
    customer_id = str(uuid.uuid4())
    quinn, other = shop_orders.customer("quinn", customer_id), shop_orders.customer("other")
    variant = await shop_orders.shop.variant(10)
    order = await shop_orders.buy(quinn, variant, email="quinn@example.com", shipping_address=_HOME)
    await shop_orders.buy(other, variant, email="other@example.com")
    await shop_orders.pay(order)
    await shop_orders.execute(_BOOK, customer_id, 3)
    assert await forget(shop_orders, customer_id) is True
    assert ("orders", "Elm Street") in await remembered(shop_orders)
    assert ("appointments", "Rex") in await remembered(shop_orders)
    await shop_orders.execute(
        "UPDATE orders SET status = 'fulfilled', fulfilled_at = now() WHERE customer_id = $1", customer_id
    )
    await shop_orders.execute("UPDATE appointments SET status = 'completed'")
    assert [await forget(shop_orders, customer_id) for _ in range(2)] == [False, False]
    assert await remembered(shop_orders) == set()
    assert await shop_orders.value("SELECT count(*) FROM orders WHERE email = 'other@example.com'") == 1
