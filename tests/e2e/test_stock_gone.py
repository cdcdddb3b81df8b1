"""Paid although the stock is gone, and money for an order that takes none: it goes back, once, and is said by mail."""

import asyncio
import uuid

import asyncpg

from deploy.local.databases import database_of, database_url
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.system import System


async def test_money_for_stock_that_is_gone_goes_back_once(
    system: System, shopper: Shopper, observer: Observer
) -> None:
    """The hold ended and somebody else bought the pieces: one refund of everything, one mail, no confirmation."""
    chosen = await shopper.choose(at_least=1)
    variant = chosen["variant"]["id"]
    await shopper.add(variant, 1)
    checkout = (await shopper.checkout()).json()
    # What a very late payment finds: catalog's backstop ended the hold, and the warehouse is empty.
    catalog = await asyncpg.connect(database_url(system.endpoints.postgres, database_of("catalog")))
    on_hand = await catalog.fetchval("SELECT on_hand FROM variants WHERE id = $1", variant)
    await catalog.execute("UPDATE holds SET state = 'expired' WHERE order_id = $1", checkout["order_id"])
    await catalog.execute("UPDATE variants SET held = held - 1, on_hand = held - 1 WHERE id = $1", variant)
    try:
        await shopper.pay(checkout)
        await shopper.wait_for(checkout, "refunded")

        async def told() -> bool:
            return len(await observer.messages(to=shopper.email)) > 0

        await eventually(told, "the refund mail")
        account = (await observer.ledger())["orders"][checkout["order_id"]]
        total = checkout["total"]["amount"]
        assert (account["charged"], account["refunds"], account["refunded"]) == (total, 1, total)
        (mail,) = await observer.messages(to=shopper.email)
        assert checkout["order_number"] in mail["text"]
    finally:
        await catalog.execute("UPDATE variants SET on_hand = $2 WHERE id = $1", variant, on_hand)
        await catalog.close()


async def test_sixty_four_buyers_of_ten_pieces(system: System, observer: Observer) -> None:
    """Ten orders, no stock left, 54 clear answers."""
    catalog = await asyncpg.connect(database_url(system.endpoints.postgres, database_of("catalog")))
    variant = await catalog.fetchval(
        "SELECT id::text FROM variants WHERE held = 0 AND on_hand > 20 ORDER BY sku LIMIT 1"
    )
    on_hand = await catalog.fetchval("SELECT on_hand FROM variants WHERE id = $1", variant)
    await catalog.execute("UPDATE variants SET on_hand = 10 WHERE id = $1", variant)
    shoppers = [Shopper(system.endpoints) for _ in range(64)]
    try:
        for shopper in shoppers:
            (await shopper.add(variant, 1)).raise_for_status()
        answers = await asyncio.gather(*(shopper.checkout(str(uuid.uuid4())) for shopper in shoppers))
        statuses = [answer.status_code for answer in answers]
        refused = [answer.json() for answer in answers if answer.status_code != 201]
        assert statuses.count(201) == 10
        assert {problem["code"] for problem in refused} == {"out_of_stock"}
        assert all(problem["changes"] for problem in refused)
        assert await observer.on_hand(variant) == (10, 10)
        for shopper, answer in zip(shoppers, answers, strict=True):
            if answer.status_code == 201:
                body = answer.json()
                path = f"/api/checkout/{body['id']}/cancel"
                cancelled = await shopper.http.post(path, params={"token": body["checkout_token"]})
                assert cancelled.status_code == 200, cancelled.text

        async def released() -> bool:
            return await observer.on_hand(variant) == (10, 0)

        await eventually(released, "every piece to be back")
    finally:
        await catalog.execute("UPDATE variants SET on_hand = $2 WHERE id = $1", variant, on_hand)
        await catalog.close()
        for shopper in shoppers:
            await shopper.close()
