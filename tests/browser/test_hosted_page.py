"""A customer pays on the hosted page with a browser, as they would at Stripe's."""

from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper
from deploy.local.system import System
from reliability.context import Principal
from reliability.ids import new_id
from services.accounts.keys.service import SigningKeys

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.browser

DECLINED, BACK = "4000000000000002", "/api/docs"


async def hosted(system: System, shopper: Shopper) -> tuple[dict[str, Any], str]:
    """What was ordered, and the address of the page to pay it on."""
    who = Principal(id=new_id(), kind="customer", email=shopper.email, name="Robin")
    token = SigningKeys.load(system.state.tls / "signing.key").access_token(who)
    shopper.http.headers["Authorization"] = f"Bearer {token}"
    variant = (await shopper.choose(at_least=2))["variant"]["id"]
    (await shopper.add(variant, 2)).raise_for_status()
    checkout = (await shopper.checkout()).raise_for_status().json()
    asked = {"order_id": checkout["order_id"], "return_path": BACK}
    answer = await shopper.http.post(
        "/api/payments/checkout-sessions", json=asked, headers={"Idempotency-Key": new_id()}
    )
    return checkout, answer.raise_for_status().json()["url"]


async def test_a_card_is_refused_and_another_pays(
    system: System, shopper: Shopper, observer: Observer, page: "Page"
) -> None:
    """The page says what was refused, a double click on *Pay* is one charge, and the shop is where one ends."""
    checkout, url = await hosted(system, shopper)
    total = f"{checkout['total']['amount'] / 100:.2f} {checkout['total']['currency']}"
    await page.goto(url)
    pay = page.get_by_role("button", name="Pay")
    assert total in await pay.inner_text()
    assert checkout["order_number"] in await page.inner_text("main")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    await page.get_by_text("Cards that behave otherwise").click()
    await page.locator(f"input[value='{DECLINED}']").check()
    await pay.click()
    assert "declined" in await page.get_by_role("alert").inner_text()
    assert await shopper.status(checkout) == "pending"

    await page.locator("input[value='4242424242424242']").check()
    await pay.dblclick()
    await page.wait_for_url(f"{system.endpoints.gateway}{BACK}")
    await shopper.wait_for(checkout, "paid")
    account = (await observer.ledger())["orders"][checkout["order_id"]]
    assert (account["charges"], account["charged"]) == (1, checkout["total"]["amount"])

    await page.goto(url)
    assert "complete" in await page.inner_text("main")
    assert await page.get_by_role("button", name="Pay").count() == 0


async def test_a_cancelled_order_cannot_be_paid_on_a_page_that_is_still_open(
    system: System, shopper: Shopper, observer: Observer, page: "Page"
) -> None:
    """Somebody leaves the page open and cancels in another tab: the button takes no money any more."""
    checkout, url = await hosted(system, shopper)
    await page.goto(url)
    cancelled = await shopper.http.post(
        f"/api/checkout/{checkout['id']}/cancel", params={"token": checkout["checkout_token"]}
    )
    assert cancelled.raise_for_status().json()["status"] == "cancelled"
    await page.get_by_role("button", name="Pay").click()
    assert "expired" in await page.inner_text("main")
    assert (await observer.ledger())["orders"].get(checkout["order_id"], {"charges": 0})["charges"] == 0
