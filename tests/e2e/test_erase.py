"""Somebody who leaves is nowhere any more: every table of every service is searched for what they gave us."""

import re
from typing import Any

import httpx

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import BUYER, Shopper, Staff, eventually
from deploy.local.ports import SERVICES
from deploy.local.system import System

PASSWORD = "nine purple otters in a row"
# Limits count by address: this one is nobody else's.
OWN_ADDRESS = "127.0.0.11"
NAME, STREET = "Zephyrine Quackenbush", "77 Snowdrop Lane"
_TOKEN = re.compile(r"#token=([A-Za-z0-9_-]+)")
# What ends by itself within a day: the job that goes round once more, and answers kept for whoever asks again.
_SHORT_LIVED = {"jobs", "idempotency_keys"}


async def _account(http: httpx.AsyncClient, observer: Observer, email: str) -> None:
    """Signs up, proves the address, and is signed in."""
    body = {"email": email, "password": PASSWORD, "name": NAME}
    assert (await http.post("/api/auth/signup", json=body)).status_code == 201

    async def token() -> str | None:
        found = [_TOKEN.search(mail["text"]) for mail in await observer.messages(to=email)]
        return found[0].group(1) if found and found[0] else None

    link = await eventually(token, "the link that proves the address")
    assert (await http.post("/api/auth/verify-email", json={"token": link})).status_code == 204
    signed_in = await http.post("/api/auth/login", json={"email": email, "password": PASSWORD})
    http.headers["Authorization"] = f"Bearer {signed_in.json()['access_token']}"


async def _found(observer: Observer, texts: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Service, table and text, wherever one of the texts stands."""
    places = set()
    for service in SERVICES:
        tables = await observer.rows(service, "SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public'")
        for table in {row["t"] for row in tables} - _SHORT_LIVED:
            for text in texts:
                query = f"SELECT EXISTS (SELECT FROM {table} AS t WHERE strpos(lower(t::text), lower($1)) > 0)"
                if await observer.value(service, query, text):
                    places.add((service, table, text))
    return places


async def test_who_leaves_is_nowhere_any_more(
    system: System, observer: Observer, shopper: Shopper, staff: Staff
) -> None:
    """Account, address book, a cart and an order that was sent: afterwards the figures are left, and no name."""
    email = f"zephyrine-{shopper.correlation_id}@example.org"
    async with httpx.AsyncClient(
        base_url=system.endpoints.gateway,
        transport=httpx.AsyncHTTPTransport(local_address=OWN_ADDRESS),
        timeout=15,
    ) as http:
        await _account(http, observer, email)
        shopper.http.headers["Authorization"] = http.headers["Authorization"]
        chosen = await shopper.choose()
        assert (await shopper.add(chosen["variant"]["id"], 1)).status_code == 201
        shopper.email = email
        address: dict[str, Any] = {**BUYER["shipping_address"], "name": NAME, "line1": STREET}  # type: ignore[dict-item]
        added = await shopper.http.post("/api/me/addresses", json=address)
        assert added.status_code == 201, added.text
        placed = await shopper.http.post(
            "/api/checkout",
            json={**BUYER, "email": email, "shipping_address": address},
            headers={"Idempotency-Key": shopper.correlation_id},
        )
        assert placed.status_code == 201, placed.text
        order = placed.json()
        await shopper.pay(order)
        await shopper.wait_for(order, "paid")

        async def confirmed() -> bool:
            return any(STREET in mail["text"] for mail in await observer.messages(to=email))

        await eventually(confirmed, "the confirmation")
        sent = await staff.http.post(
            f"/api/admin/orders/{order['order_id']}/fulfil",
            json={},
            headers={"Idempotency-Key": f"{shopper.correlation_id}-2"},
        )
        assert sent.status_code == 200, sent.text

        async def told_of_parcel() -> bool:
            return len(await observer.messages(to=email)) >= 3

        await eventually(told_of_parcel, "the mail that the parcel is on its way")
        texts = (email, NAME, STREET)
        before = await _found(observer, texts)
        assert {("accounts", "accounts"), ("orders", "orders"), ("notifications", "emails")} <= {
            place[:2] for place in before
        }
        assert (await http.delete("/api/me")).status_code == 204

        async def forgotten() -> bool:
            return not await _found(observer, texts)

        try:
            await eventually(forgotten, "everybody to forget")
        except TimeoutError:
            assert await _found(observer, texts) == set()
