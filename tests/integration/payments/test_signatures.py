"""Who may tell us something: whoever has one of the secrets, and tells it about now."""

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from reliability.ids import new_id
from reliability.runtime import Application, Runtime
from services.payments_webhooks.app import build
from services.payments_webhooks.settings import PaymentsSettings
from tests.integration.payments.test_intents_and_refunds import SETTINGS

OLD, NEW = "whsec_of_last_year", "whsec_of_this_year"


@pytest.fixture
async def http(
    runtime_for: Callable[..., Awaitable[Runtime[Any]]], client_for: Callable[[Application], httpx.AsyncClient]
) -> httpx.AsyncClient:
    """Payments while its secret is rotated."""
    rotating = SETTINGS | {"stripe_webhook_secret": f"{NEW}, {OLD},"}
    return client_for(build(await runtime_for("payments-webhooks", PaymentsSettings, **rotating)))


async def told(http: httpx.AsyncClient, *secrets: str, late: int = 0) -> tuple[int, str]:
    """Status, and what is wrong, of an event that was signed with these secrets so many seconds ago."""
    body = json.dumps({"id": f"evt_{new_id()}", "type": "moon.landed", "data": {"object": {"id": "moon_1"}}}).encode()
    at = int(time.time()) - late
    digests = [hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() for secret in secrets]
    header = ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])
    answer = await http.post("/api/stripe/webhook", content=body, headers={"stripe-signature": header})
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize("secrets", [(OLD,), (NEW,), (OLD, NEW), ("whsec_another", NEW)])
async def test_while_a_secret_is_rotated_both_are_good(http: httpx.AsyncClient, secrets: tuple[str, ...]) -> None:
    """Stripe signs with both for a day; any one of them is enough."""
    assert await told(http, *secrets) == (200, "")


@pytest.mark.parametrize("secrets", [("whsec_another",), ("",), (f"{NEW}, {OLD}",), ()])
async def test_nobody_else_is_believed(http: httpx.AsyncClient, secrets: tuple[str, ...]) -> None:
    """Not with another secret, nor with the empty one that the setting's last comma seems to make, nor unsigned."""
    assert await told(http, *secrets) == (400, "invalid_signature")


@pytest.mark.parametrize("late", [330, -330, 86_400, -86_400])
async def test_the_tolerance_has_two_sides(http: httpx.AsyncClient, late: int) -> None:
    """Five minutes in the past, and in the future: what was recorded is not played again later."""
    assert await told(http, NEW, late=late) == (400, "stale_signature")


@pytest.mark.parametrize("late", [270, -270])
async def test_within_the_tolerance_it_is_believed(http: httpx.AsyncClient, late: int) -> None:
    """Clocks may differ by some minutes."""
    assert await told(http, NEW, late=late) == (200, "")
