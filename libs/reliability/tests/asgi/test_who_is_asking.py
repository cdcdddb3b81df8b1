"""Who is asking, and what they may."""

import base64
import time
from typing import Any

import httpx
import orjson
import pytest
from joserfc.jwk import OKPKey

from libs.reliability.tests.asgi.support import SITE, Issuer, Shop, code
from libs.reliability.tests.support import answer_of
from reliability.asgi import Access, Answer, Call, Endpoint, routes
from reliability.context import Principal
from reliability.errors import Problem
from reliability.runtime import Application
from reliability.tokens import ACCESS_COOKIE, TokenVerifier


async def test_a_bearer_and_a_cookie_say_who_is_asking(client: httpx.AsyncClient, shop: Shop, issuer: Issuer) -> None:
    """The keys are fetched once."""
    token = issuer.sign(email="a@b.test", kind="customer")
    await client.get("/me", headers={"authorization": f"bEaReR {token}"})
    await client.get("/me", headers={"cookie": f"{ACCESS_COOKIE}={token}"})
    assert shop.who == [Principal("u-1", "customer", "a@b.test")] * 2
    assert issuer.fetched == 1


@pytest.mark.parametrize(
    ("claims", "path", "status"),
    [
        ({}, "/staff", 403),
        ({"kind": "staff"}, "/staff", 200),
        ({"kind": "staff"}, "/staff/refunds", 403),
        ({"kind": "staff", "permissions": ["refund"]}, "/staff/refunds", 200),
        ({"kind": "customer", "permissions": ["refund"]}, "/staff/refunds", 403),
    ],
)
async def test_staff_routes_are_for_staff_with_the_permission(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any], path: str, status: int
) -> None:
    """An empty permission is any member of staff's."""
    answer = await client.get(path, headers={"authorization": f"Bearer {issuer.sign(**claims)}"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "claims", [{"exp": 1}, {"iss": "somebody"}, {"aud": "else"}, {"sub": None}], ids=lambda value: next(iter(value))
)
async def test_a_token_that_is_not_for_us_or_not_for_now_is_none(
    client: httpx.AsyncClient, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """401, and how to do better."""
    answer = await client.get("/me", headers={"authorization": f"Bearer {issuer.sign(**claims)}"})
    assert code(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"origin": SITE}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_a_cookie_that_another_site_made_a_browser_send_is_refused(
    client: httpx.AsyncClient, issuer: Issuer, headers: dict[str, str], status: int
) -> None:
    """Only where something may change; reading cannot be seen by the other site."""
    cookie = {"cookie": f"{ACCESS_COOKIE}={issuer.sign()}"}
    assert (await client.put("/me", json={"name": "x"}, headers=headers | cookie)).status_code == status
    assert (await client.get("/me", headers=headers | cookie)).status_code == 200


async def test_a_new_key_of_the_issuer_is_fetched_and_nonsense_is_not_a_stream_of_calls(issuer: Issuer) -> None:
    """At most once in ten seconds; when the issuer is away, the keys we have decide."""
    now = time.time()
    verifier = TokenVerifier(issuer.fetch, now=lambda: now)
    old = issuer.sign()
    await verifier.verify(old)
    for _ in range(5):
        with pytest.raises(Problem):
            await verifier.verify("nonsense")
    assert issuer.fetched == 1
    issuer.key = OKPKey.generate_key("Ed25519", parameters={"kid": "two"})
    now += 11
    assert (await verifier.verify(issuer.sign())).id == "u-1"
    issuer.away = True
    now += 11
    with pytest.raises(Problem) as refused:
        await verifier.verify(old)
    assert (refused.value.status, issuer.fetched) == (401, 3)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}])
async def test_a_token_says_nothing_about_how_it_is_verified(issuer: Issuer, header: dict[str, str]) -> None:
    """Neither unsigned nor signed with our public key as a secret."""
    parts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (header, {"sub": "u-1"})]
    with pytest.raises(Problem):
        await TokenVerifier(issuer.fetch).verify(b".".join([*parts, b""]).decode())


async def test_routes_without_anybody_to_ask_are_public_or_401() -> None:
    """A table that was given no way to authenticate lets nobody in."""

    async def handle(_call: Call) -> Answer:
        return Answer()

    table = [Endpoint("GET", "/a", handle), Endpoint("GET", "/b", handle, access=Access.CUSTOMER)]
    assert len(routes(table)) == 2
    statuses = [(await answer_of(Application(table), "GET", path)).status_code for path in ("/a", "/b")]
    assert statuses == [200, 401]
