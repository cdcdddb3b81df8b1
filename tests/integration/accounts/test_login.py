"""Signing in: who gets in, who does not, and what it costs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import httpx
import pytest

from reliability.tokens import ACCESS_COOKIE, TokenVerifier
from reliability.wire import Command, Wire
from services.accounts.passwords import Passwords
from tests.integration.accounts.conftest import CUSTOMER_PASSWORD, OWNER, PASSWORD, Accounts, MakeAccounts


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for every time argon2 was asked."""
    asked: list[bool] = []
    real = Passwords.verify

    async def verify(self: Passwords, stored: str | None, password: str) -> bool:
        asked.append(stored is not None)
        return await real(self, stored, password)

    monkeypatch.setattr(Passwords, "verify", verify)
    return asked


async def test_the_right_password_gives_a_token_every_service_can_verify(accounts: Accounts) -> None:
    """The token verifies against the published keys alone and carries the owner's permissions."""
    answer = await accounts.login()
    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 900
    assert body["user"] == {"id": body["user"]["id"], "email": OWNER, "name": "Owner", "role": "owner"}

    async def published() -> str:
        keys = await accounts.http.get("/.well-known/jwks.json")
        assert keys.headers["cache-control"] == "public, max-age=300"
        return keys.text

    who = await TokenVerifier(published).verify(body["access_token"])
    assert (who.id, who.kind, who.role) == (body["user"]["id"], "staff", "owner")
    assert who.permissions == {
        "catalog", "orders", "refunds", "campaigns", "customers", "operations", "staff"
    }  # fmt: skip


@pytest.mark.parametrize(("url", "secure"), [("http://127.0.0.1:8080", False), ("https://shop.test", True)])
async def test_the_cookie_is_the_browsers_alone(make_accounts: MakeAccounts, url: str, secure: bool) -> None:
    """Scripts cannot read it, other sites cannot send it, and it is `Secure` where there is TLS."""
    accounts = await make_accounts(public_url=url)
    answer = await accounts.login()
    access, refresh = (cookie.split("; ") for cookie in answer.headers.get_list("set-cookie"))
    name, *attributes = access
    assert name == f"{ACCESS_COOKIE}={answer.json()['access_token']}"
    assert set(attributes) == {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=900"} | ({"Secure"} if secure else set())
    assert refresh[0].startswith("holdfast_refresh=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/api/auth", "Max-Age=2592000"} <= set(refresh)
    assert ("Secure" in refresh) is secure
    assert answer.headers["cache-control"] == "no-store"


async def test_an_address_is_known_however_it_is_written(accounts: Accounts) -> None:
    """Capitals and blanks around an address do not matter."""
    assert (await accounts.login(email=f" {OWNER.upper()} ")).status_code == 200


async def test_nobody_learns_which_addresses_exist(accounts: Accounts, verifications: list[bool]) -> None:
    """Wrong password, unknown address, account without password: one answer, and argon2 runs for each."""
    async with accounts.runtime.database.connection() as connection:
        await connection.execute(
            "INSERT INTO accounts (kind, role, email, name) VALUES ('customer', 'customer', 'c@example.com', 'C')"
        )
    answers = [
        await accounts.login(password="wrong", client="192.0.2.1"),
        await accounts.login(email="nobody@example.com", client="192.0.2.2"),
        await accounts.login(email="c@example.com", client="192.0.2.3"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    documents = [{**answer.json(), "correlation_id": ""} for answer in answers]
    assert documents[0]["code"] == "invalid_credentials"
    assert documents[0] == documents[1] == documents[2]
    assert all("ratelimit" in answer.headers and "set-cookie" not in answer.headers for answer in answers)
    assert verifications == [True, False, False]


async def test_unknown_addresses_take_as_long_as_known_ones() -> None:
    """The dummy hash costs what a real one costs: medians of CPU time within a third of each other."""
    passwords = Passwords()
    stored = await passwords.hash(PASSWORD)

    async def measure(against: str | None) -> float:
        started = time.process_time()
        await passwords.verify(against, "wrong")
        return time.process_time() - started

    pairs = [(await measure(stored), await measure(None)) for _ in range(7)]
    known, unknown = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    assert abs(known - unknown) < max(known, unknown) / 3


async def test_a_suspended_account_is_refused_like_a_wrong_password(accounts: Accounts) -> None:
    """The right password of a suspended account opens nothing and tells nothing."""
    async with accounts.runtime.database.connection() as connection:
        await connection.execute("UPDATE accounts SET status = 'suspended'")
    answer = await accounts.login()
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


async def test_the_sixth_attempt_on_an_account_is_refused_unseen(accounts: Accounts, verifications: list[bool]) -> None:
    """Six clients, one account: the sixth gets 429 with Retry-After, and no password was looked at for it."""
    answers = [await accounts.login(client=f"192.0.2.{n}") for n in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"login-client";q=5;w=900, "login-account";q=5;w=900'
    assert '"login-account";r=4;' in answers[0].headers["ratelimit"]
    assert answers[5].json()["code"] == "rate_limited"
    assert 0 < int(answers[5].headers["retry-after"]) <= 900
    assert '"login-account";r=0;' in answers[5].headers["ratelimit"]
    assert len(verifications) == 5


async def test_no_spelling_of_an_address_is_counted_for_itself(accounts: Accounts, verifications: list[bool]) -> None:
    """PostgreSQL takes a dotted capital I and a Kelvin sign for i and k: no spelling finds the account uncounted."""
    await accounts.customer("kim@kiosk.example")
    spellings = ["Kim", "kIm", "K\u0130M", "k\u0130m", "\u212aim", "\u212a\u0130m", " kim", "kim"]
    answers = [
        await accounts.login(f"{name}@k\u0130osk.example", "wrong", f"203.0.113.{number}")
        for number, name in enumerate(spellings * 2)
    ]
    answers += [
        await accounts.login(f"{name}@kiosk.example", "wrong", f"203.0.114.{number}")
        for number, name in enumerate(spellings * 2)
    ]
    assert {answer.status_code for answer in answers} == {401, 429}
    # The customer signed in once; whoever goes through the spellings is looked at four times more.
    assert verifications.count(True) == 5


async def test_an_international_address_signs_in_as_it_was_typed(accounts: Accounts) -> None:
    """Domains are kept in ASCII (RFC 5891): who signs up with another script's signs in with it."""
    email = "ada@b\u00fccher.example"
    assert (await accounts.sign_up(email)).status_code == 201
    for typed in (email, email.upper(), "ada@xn--bcher-kva.example"):
        assert (await accounts.login(typed, CUSTOMER_PASSWORD)).status_code == 200


async def test_the_sixth_attempt_of_a_client_is_refused_whoever_it_claims_to_be(
    accounts: Accounts, verifications: list[bool]
) -> None:
    """One client going through addresses is stopped at five."""
    answers = [await accounts.login(email=f"guess{n}@example.com") for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert len(verifications) == 5


async def test_fifty_logins_at_once_get_five_answers(accounts: Accounts, verifications: list[bool]) -> None:
    """Racing does not get around the limit: 5 of 50 simultaneous attempts are looked at."""
    answers = await asyncio.gather(*(accounts.login(client=f"192.0.2.{n}") for n in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 45
    assert len(verifications) == 5


async def test_login_needs_one_round_trip_to_redis(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both limits are decided in one script."""
    await accounts.login()  # sends the script, once for good
    steps: list[str] = []
    real: Callable[..., Awaitable[Any]] = Wire.call

    async def call(self: Wire, step: str, seconds: float, *commands: Command) -> Any:
        steps.append(step)
        return await real(self, step, seconds, *commands)

    monkeypatch.setattr(Wire, "call", call)
    await accounts.login()
    assert steps == ["rate limit"]


async def test_without_redis_login_works_and_is_still_limited(make_accounts: MakeAccounts) -> None:
    """A cache that is away costs nobody the login, and the process counts for itself."""
    accounts = await make_accounts(redis_url="redis://127.0.0.1:1/0")
    answers = [await accounts.login() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "malformed_json"),
        ('{"email": "a@example.com"}', 422, "validation_failed"),
        ('{"email": "a@example.com", "password": 5}', 422, "validation_failed"),
        ('{"email": "a@example.com", "password": ""}', 422, "validation_failed"),
        ('{"email": "a\\u0000@example.com", "password": "x"}', 422, "validation_failed"),
    ],
)
async def test_bad_bodies_are_told_apart(accounts: Accounts, body: str, status: int, code: str) -> None:
    """Each kind of bad body has its own answer, and none counts as an attempt."""
    answer = await accounts.http.post("/api/auth/login", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_idempotency_key_does_not_replay_a_login(accounts: Accounts) -> None:
    """Tokens are never stored to be replayed: two logins with one key are two logins."""
    first, second = [
        await accounts.http.post(
            "/api/auth/login", json={"email": OWNER, "password": PASSWORD}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]
    assert first.json()["access_token"] != second.json()["access_token"]
    assert "idempotent-replayed" not in second.headers


async def test_who_am_i(accounts: Accounts) -> None:
    """The session route knows a bearer, a cookie and nobody; a bad token is nobody."""

    async def session(client: httpx.AsyncClient, **headers: str) -> Any:
        answer = await client.get("/api/auth/session", headers=headers)
        assert answer.status_code == 200
        return answer.json()["user"]

    assert await session(accounts.http) is None
    login = (await accounts.login()).json()
    assert await session(accounts.http) == login["user"]  # the client kept the cookie
    accounts.http.cookies.clear()
    assert await session(accounts.http, Authorization=f"Bearer {login['access_token']}") == login["user"]
    assert await session(accounts.http, Authorization="Bearer forged.token.here") is None


async def test_the_event_loop_stays_free_while_argon2_works() -> None:
    """Eight verifications run on threads: the loop turns more often meanwhile than if it waited for each of them."""
    passwords = Passwords()
    stored = await passwords.hash(PASSWORD)
    work = asyncio.gather(*(passwords.verify(stored, "wrong") for _ in range(8)))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
