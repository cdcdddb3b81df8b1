"""Campaigns reach whom they say: accounts signs up, catalog sells, payments is paid, orders tells, notifications sends.

Every part is real; mail goes as far as the list of a campaign's recipients.
"""

from typing import Any

import httpx

from tests.integration.orders.support import Orders, key

PASSWORD = "a long enough pass phrase of hers"
CAMPAIGNS = "/api/admin/email-campaigns"


async def signed_up(orders: Orders, name: str) -> httpx.AsyncClient:
    """Somebody who wants news, and whose address is proven, in the shop."""
    email = f"{name}@example.com"
    http = orders.client_for(orders.applications["accounts"])
    account = {"email": email, "name": name, "password": PASSWORD, "marketing_consent": True}
    assert (await http.post("/api/auth/signup", json=account)).status_code == 201
    await orders.runtimes["accounts"].worker.run_until_idle()
    mail = next(mail for mail in (await orders.mails()).values() if mail.to == email)
    token = mail.data["link"].partition("#token=")[2]
    assert (await http.post("/api/auth/verify-email", json={"token": token})).status_code == 204
    await orders.runtimes["accounts"].worker.run_until_idle()
    session = await http.post("/api/auth/login", json={"email": email, "password": PASSWORD})
    client = orders.guest()
    client.headers["Authorization"] = f"Bearer {session.json()['access_token']}"
    return client


async def bought(orders: Orders, client: httpx.AsyncClient, name: str, variant: object) -> dict[str, Any]:
    """An order that is paid at Stripe, and everything that follows from it."""
    checkout = await orders.buy(client, variant, email=f"{name}@example.com")
    await orders.pays(checkout)
    await orders.settle()
    return checkout


async def reached(orders: Orders, **audience: Any) -> set[str]:
    """Whom a campaign to an audience is sent to."""
    staff = orders.staff("campaigns")
    draft = {"name": "News", "subject": "News", "html": "<p>News</p>", "audience": audience}
    campaign = (await staff.post(CAMPAIGNS, json=draft, headers=key())).json()
    sent = await staff.post(f"{CAMPAIGNS}/send", json={"campaign_id": campaign["id"]}, headers=key())
    if sent.status_code == 422:
        assert sent.json()["code"] == "empty_audience", sent.text
        return set()
    assert sent.status_code == 202, sent.text
    notifications = orders.runtimes["notifications"]
    await notifications.worker.run_until_idle()
    async with notifications.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT email FROM campaign_recipients WHERE campaign_id = $1::uuid", campaign["id"]
        )
    return {row["email"] for row in rows}


async def product_of(orders: Orders, variant: object) -> str:
    rows = await orders.shop.fetch("SELECT product_id::text FROM variants WHERE id = $1", variant)
    return str(rows[0]["product_id"])


async def test_a_campaign_reaches_who_bought_and_nobody_else(shop_orders: Orders) -> None:
    """By product, by what was spent with refunds taken off, and by how long they have not bought."""
    ada, bob = await signed_up(shop_orders, "ada"), await signed_up(shop_orders, "bob")
    kibble, bowl = await shop_orders.shop.variant(price=5000), await shop_orders.shop.variant(price=9000)
    await bought(shop_orders, ada, "ada", kibble)
    dear = await bought(shop_orders, bob, "bob", bowl)
    placed = await shop_orders.buy(bob, kibble, email="bob@example.com")  # and never paid
    assert placed["status"] == "pending"
    assert await reached(shop_orders, bought_product_ids=[await product_of(shop_orders, kibble)]) == {"ada@example.com"}
    assert await reached(shop_orders, inactive_days=1) == set()
    over = {"amount": 8000, "currency": "USD"}
    assert await reached(shop_orders, spent_over=over) == {"bob@example.com"}
    staff = shop_orders.staff("refunds")
    path, body = f"/api/admin/orders/{dear['id']}/refund", {"reason": "Sorry."}
    assert (await staff.post(path, json=body, headers=key())).status_code in {200, 202}
    await shop_orders.settle()
    assert await reached(shop_orders, spent_over=over) == set()


async def test_what_was_heard_twice_is_told_once(shop_orders: Orders) -> None:
    """One job for an order that is paid, one for a refund, however often payments reports; a failed one tells again."""
    checkout = await shop_orders.buy(shop_orders.guest(), await shop_orders.shop.variant(price=5000))
    for _ in range(3):
        await shop_orders.pay(checkout)
        await shop_orders.refunded(checkout, 2000, "re_a")
    jobs = "SELECT count(*) FROM jobs WHERE kind = $1"
    assert [await shop_orders.value(jobs, kind) for kind in ("settle_order", "tell_order_refunded")] == [1, 1]
    await shop_orders.work()
    known = "SELECT refunded FROM purchases WHERE order_id = $1::uuid"
    assert await shop_orders.elsewhere("notifications", known, checkout["id"]) == 2000
    await shop_orders.refund_fails(checkout, 2000, "re_a")
    await shop_orders.work()
    assert await shop_orders.elsewhere("notifications", known, checkout["id"]) == 0
