"""A customer and a member of staff, as seen from outside: plain HTTP through the gateway."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from deploy.local.endpoints import Endpoints

__all__ = ["BUYER", "Shopper", "Staff", "eventually"]

Json = dict[str, Any]

BUYER = {
    "shipping_address": {
        "name": "Robin Meadows",
        "line1": "12 Harbour Street",
        "city": "Portland",
        "postal_code": "97201",
        "region": "OR",
        "country": "US",
    },
    "shipping_method": "standard",
}


async def eventually(check: Callable[[], Any], what: str, *, seconds: float = 30.0) -> Any:
    """The first true answer of `await check()`; raises `TimeoutError` naming `what` when there is none in time."""
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await check()):  # noqa: ASYNC110 - another process has no signal to await
                await asyncio.sleep(0.1)
            return answer
    except TimeoutError:
        raise TimeoutError(f"waited {seconds:.0f} s for {what}") from None


class Shopper:
    """One customer with one browser: the client keeps the cookies."""

    def __init__(self, endpoints: Endpoints, correlation_id: str | None = None) -> None:
        self.correlation_id = correlation_id or f"demo-{uuid.uuid4().hex[:12]}"
        self.email = f"{self.correlation_id}@example.com"
        self.http = httpx.AsyncClient(
            base_url=endpoints.gateway, timeout=15, headers={"X-Correlation-ID": self.correlation_id}
        )
        self._stripe = httpx.AsyncClient(base_url=endpoints.stripe_sandbox or "", timeout=15)

    async def close(self) -> None:
        """Closes the connections."""
        await self.http.aclose()
        await self._stripe.aclose()

    async def choose(self, *, at_least: int = 2) -> Json:
        """A product in stock with a variant of which there are enough."""
        cursor = ""
        while True:
            page = (
                await self.http.get("/api/products", params={"in_stock": "true", "cursor": cursor} if cursor else {})
            ).json()
            for item in page["items"]:
                product: Json = (await self.http.get(f"/api/products/{item['slug']}")).json()
                for variant in product["variants"]:
                    if variant["available"] >= at_least:
                        return {"product": product, "variant": variant}
            cursor = page["next_cursor"] or ""
            if not cursor:
                raise LookupError(f"no variant with {at_least} pieces in stock; is the seed data there?")

    async def add(self, variant_id: str, quantity: int) -> httpx.Response:
        """Puts pieces into the cart."""
        return await self.http.post("/api/cart/items", json={"variant_id": variant_id, "quantity": quantity})

    async def checkout(self, key: str | None = None) -> httpx.Response:
        """Clicks *order*; the same `key` is the same click."""
        return await self.http.post(
            "/api/checkout",
            json={"email": self.email, **BUYER},
            headers={"Idempotency-Key": key or str(uuid.uuid4())},
        )

    async def checkout_until_answered(self, key: str) -> Json:
        """What a good client does: the same key again while the answer is 409 in progress, 429, 503 or 504, or none."""

        async def attempt() -> Json | None:
            try:
                answer = await self.checkout(key)
            except httpx.TransportError:
                return None
            body: Json = answer.json()
            if answer.status_code == 201:
                return body
            if answer.status_code in {429, 502, 503, 504} or body.get("code") == "idempotency_in_progress":
                return None
            raise RuntimeError(f"checkout answered {answer.status_code}: {body}")

        answer: Json = await eventually(attempt, "an answer to the checkout")
        return answer

    async def pay(self, checkout: Json, card: str = "4242424242424242") -> httpx.Response:
        """Pays as the customer's browser would with Stripe.js."""
        intent = checkout["payment"]["payment_intent_id"]
        return await self._stripe.post(f"/_sandbox/payment_intents/{intent}/pay", json={"card": card})

    async def status(self, checkout: Json) -> str:
        """The checkout's status."""
        answer = await self.http.get(f"/api/checkout/{checkout['id']}", params={"token": checkout["checkout_token"]})
        return str(answer.json().get("status"))

    async def wait_for(self, checkout: Json, status: str, *, seconds: float = 30.0) -> None:
        """Until the checkout has a status."""

        async def reached() -> bool:
            try:
                return await self.status(checkout) == status
            except (httpx.TransportError, ValueError):
                return False

        await eventually(reached, f"checkout {checkout['id']} to be {status}", seconds=seconds)

    async def order_fault(self, **fault: Any) -> None:
        """Orders bad luck of the Stripe sandbox."""
        (await self._stripe.post("/_sandbox/faults", json=fault)).raise_for_status()

    async def deliveries(self, intent: str) -> list[Json]:
        """Webhook deliveries about an intent, newest first."""
        answer: list[Json] = (await self._stripe.get("/_sandbox/deliveries", params={"payment_intent": intent})).json()
        return answer

    async def redeliver(self, event_id: str, count: int) -> None:
        """Has Stripe send an event again, several times at once."""
        answer = await self._stripe.post(
            f"/_sandbox/events/{event_id}/redeliver", json={"count": count, "concurrent": True}
        )
        answer.raise_for_status()


class Staff:
    """A member of staff with a session."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._credentials = endpoints.staff
        self.http = httpx.AsyncClient(base_url=endpoints.gateway, timeout=15)

    async def close(self) -> None:
        """Closes the connections."""
        await self.http.aclose()

    async def sign_in(self) -> str:
        """Logs in; later requests carry the token, which is returned."""
        answer = await self.http.post("/api/auth/login", json=self._credentials)
        answer.raise_for_status()
        token = str(answer.json()["access_token"])
        self._carry(token)
        self.http.cookies.clear()
        return token

    async def go_on(self, token: str) -> bool:
        """Whether a token of before is still good; then later requests carry it."""
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.http.get("/api/auth/session", headers=headers)
        answer.raise_for_status()
        if answer.json()["user"] is None:
            return False
        self._carry(token)
        return True

    def _carry(self, token: str) -> None:
        self.http.headers["Authorization"] = f"Bearer {token}"

    async def draft_campaign(self, name: str) -> str:
        """A new campaign to everybody."""
        answer = await self.http.post(
            "/api/admin/email-campaigns",
            json={
                "name": name,
                "subject": f"{name}: new arrivals for small paws",
                "html": "<p>Fresh hay, softer beds and a new puzzle feeder are on the shelves.</p>",
                "audience": {"all": True},
            },
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def send_campaign(self, campaign_id: str) -> httpx.Response:
        """Clicks *send*."""
        return await self.http.post("/api/admin/email-campaigns/send", json={"campaign_id": campaign_id})

    async def campaign_stats(self, campaign_id: str) -> Json:
        """How far it has come."""
        answer: Json = (await self.http.get(f"/api/admin/email-campaigns/{campaign_id}/stats")).json()
        return answer

    async def trace(self, trace_id: str) -> list[Json]:
        """One trace, or none."""
        answer = await self.http.get(f"/api/admin/traces/{trace_id}")
        return [answer.json()] if answer.status_code == 200 else []

    async def traces(self, correlation_id: str) -> list[Json]:
        """Every trace of one flow, with its spans."""
        found = await self.http.get("/api/admin/traces", params={"correlation_id": correlation_id, "limit": 100})
        return [(await self.http.get(f"/api/admin/traces/{item['trace_id']}")).json() for item in found.json()["items"]]
