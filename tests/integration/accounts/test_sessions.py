"""Staying signed in: refresh tokens that rotate, and sessions that end everywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc.aio
import httpx
import pytest

from holdfast.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from reliability import revocation, rpc
from reliability.errors import Unauthenticated
from reliability.redis import Cache
from reliability.revocation import Revocations
from reliability.runtime import Application
from reliability.testing.clock import FakeClock
from reliability.tokens import ACCESS_COOKIE, TokenVerifier
from services.accounts.session.cookies import REFRESH_COOKIE
from services.accounts.session.domain import GRACE
from tests.integration.accounts.conftest import OWNER, Accounts, MakeAccounts

Connect = Callable[[str], grpc.aio.Channel]
ServeRpc = Callable[[Application], Awaitable[Connect]]
LATER = GRACE + timedelta(seconds=1)


async def refresh(accounts: Accounts, token: str, *, client: str = "192.0.2.1", **headers: str) -> httpx.Response:
    accounts.http.cookies.clear()
    cookie = {"Cookie": f"{REFRESH_COOKIE}={token}", "X-Client-Address": client}
    return await accounts.http.post("/api/auth/refresh", headers={**cookie, **headers})


async def sign_in(accounts: Accounts, **headers: str) -> tuple[str, dict[str, str]]:
    """A refresh token, and the header of the access token that came with it."""
    answer = await accounts.login()
    assert answer.status_code == 200, answer.text
    accounts.http.cookies.clear()
    return answer.cookies[REFRESH_COOKIE], {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_refresh_token_gives_the_next_one_and_a_new_access_token(accounts: Accounts) -> None:
    """The new pair works, and speaks for the same person in the same session."""
    token, _ = await sign_in(accounts)
    first = await refresh(accounts, token)
    assert first.status_code == 200
    assert first.json()["user"]["email"] == OWNER
    following = first.cookies[REFRESH_COOKIE]
    assert following != token
    assert (await refresh(accounts, following)).status_code == 200
    assert await accounts.value("SELECT generation FROM sessions") == 3
    assert await accounts.value("SELECT count(*) FROM sessions") == 1


async def test_an_answer_that_was_lost_is_given_again(accounts: Accounts) -> None:
    """Two tabs at once, or a retry after a crash: both get the same successor, and neither is signed out."""
    token, _ = await sign_in(accounts)
    answers = await asyncio.gather(*(refresh(accounts, token) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.cookies[REFRESH_COOKIE] for answer in answers}) == 1
    assert await accounts.value("SELECT generation FROM sessions") == 2
    assert (await refresh(accounts, answers[0].cookies[REFRESH_COOKIE])).status_code == 200


@pytest.mark.parametrize(
    ("age", "how"),
    [(LATER, {}), (timedelta(0), {"client": "203.0.113.9"}), (timedelta(0), {"User-Agent": "somebody else"})],
    ids=["too late", "from elsewhere", "by another browser"],
)
async def test_an_old_token_used_twice_ends_the_family_and_the_owner_is_told(
    accounts: Accounts, age: timedelta, how: Any
) -> None:
    """Whoever stole it is out, and so is everybody else of that session: within seconds, by mail, once."""
    token, _ = await sign_in(accounts)
    stolen = await refresh(accounts, token)
    await accounts.execute("UPDATE sessions SET rotated_at = rotated_at - $1::interval", age)
    answers = [await refresh(accounts, token, **how), await refresh(accounts, token, **how)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(401, "session_ended")] * 2
    assert (await refresh(accounts, stolen.cookies[REFRESH_COOKIE])).status_code == 401
    access = {"Authorization": f"Bearer {stolen.json()['access_token']}"}
    await accounts.work()
    accounts.http.cookies.clear()
    assert (await accounts.http.get("/api/auth/sessions", headers=access)).status_code == 401
    (mail,) = accounts.mails("session_ended")
    assert (mail.to, mail.data["customer_name"]) == (OWNER, "Owner")
    assert mail.data["link"].endswith("/account/forgot-password")
    assert token not in str(mail.data)


async def test_a_token_two_generations_old_is_never_repeated(accounts: Accounts) -> None:
    """The grace is for the immediate predecessor alone."""
    token, _ = await sign_in(accounts)
    second = (await refresh(accounts, token)).cookies[REFRESH_COOKIE]
    await refresh(accounts, second)
    assert (await refresh(accounts, token)).status_code == 401
    assert await accounts.value("SELECT end_reason FROM sessions") == "reuse"


async def test_a_made_up_token_ends_nobodys_session(accounts: Accounts) -> None:
    """Reuse is known by the token, not by the session's id, which is no secret."""
    token, _ = await sign_in(accounts)
    session_id = await accounts.value("SELECT id::text FROM sessions")
    for made_up in (session_id, "x", token[:-1]):
        assert (await refresh(accounts, made_up)).status_code == 401
    assert (await refresh(accounts, token)).status_code == 200


async def test_no_token_is_stored(accounts: Accounts) -> None:
    """Whoever reads the database finds hashes."""
    token, _ = await sign_in(accounts)
    following = (await refresh(accounts, token)).cookies[REFRESH_COOKIE]
    dump = ""
    for table in ("sessions", "refresh_tokens", "jobs"):
        dump += str(await accounts.value(f"SELECT string_agg(t::text, '\n') FROM {table} AS t"))
    assert token not in dump
    assert following not in dump


async def test_a_session_that_is_not_used_runs_out(accounts: Accounts) -> None:
    """After thirty days without a refresh the token is worth nothing, and nobody is alarmed."""
    token, _ = await sign_in(accounts)
    await accounts.execute("UPDATE sessions SET expires_at = now()")
    assert (await refresh(accounts, token)).json()["code"] == "session_ended"
    await accounts.work()
    assert accounts.mails("session_ended") == []


async def test_another_site_cannot_refresh(accounts: Accounts) -> None:
    """The cookie alone is not enough when a browser says it was sent from elsewhere."""
    token, _ = await sign_in(accounts)
    assert (await refresh(accounts, token, Origin="https://evil.test")).status_code == 403
    assert (await refresh(accounts, "")).status_code == 401


@pytest.mark.parametrize("redis", [True, False], ids=["by Redis", "without Redis"])
async def test_a_logout_reaches_every_service_within_five_seconds(
    make_accounts: MakeAccounts, cache: Cache, serve_rpc: ServeRpc, redis: bool
) -> None:
    """A service that has just looked looks again after two: by then the list has it, or accounts says so."""
    accounts = await make_accounts(**({} if redis else {"redis_url": "redis://127.0.0.1:1/0"}))
    connect = await serve_rpc(accounts.application)
    stub = accounts_pb2_grpc.AccountsServiceStub(connect("orders"))
    keys = rpc.key_set(stub.GetSigningKeys, accounts_pb2.GetSigningKeysRequest(), step="accounts.GetSigningKeys")
    ended = rpc.revocation_list(
        stub.ListRevocations, accounts_pb2.ListRevocationsRequest(), step="accounts.ListRevocations"
    )
    clock = FakeClock()
    verifier = TokenVerifier(keys, revoked=Revocations(ended, cache if redis else None, clock=clock))
    _, access = await sign_in(accounts)
    token = access["Authorization"].removeprefix("Bearer ")
    other = (await sign_in(accounts))[1]["Authorization"].removeprefix("Bearer ")
    if redis:
        await accounts.runtime.worker._plan()
        await accounts.work()
        assert await cache.client.zcard("revocations") == 1  # the mark of a whole list
    assert (await verifier.verify(token)).email == OWNER
    answer = await accounts.http.post("/api/auth/logout", headers=access)
    assert answer.status_code == 204
    gone = [cookie.split(";")[0] for cookie in answer.headers.get_list("set-cookie")]
    assert gone == [f"{ACCESS_COOKIE}=", f"{REFRESH_COOKIE}="]
    await accounts.work()
    clock.advance(2.0)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)
    assert (await verifier.verify(other)).email == OWNER


async def test_what_redis_missed_is_published_when_it_is_back(accounts: Accounts, cache: Cache) -> None:
    """The job waits for Redis without counting attempts; afterwards the list is whole."""
    _, access = await sign_in(accounts)
    breaker = accounts.runtime.cache.breaker
    await accounts.http.post("/api/auth/logout", headers=access)
    breaker.force_open()
    await accounts.runtime.worker.run_until_idle()
    assert await accounts.value("SELECT attempt FROM jobs WHERE kind = 'publish_revocations'") == 0
    breaker.reset()
    await accounts.work()
    session_id = await accounts.value("SELECT id::text FROM sessions")
    listed = await cache.client.zrange("revocations", 0, -1)
    assert listed == [revocation.session(session_id).encode(), b"complete"]


async def test_the_devices_of_an_account_are_listed_and_ended_one_by_one(accounts: Accounts) -> None:
    """Each says where it is; only one's own can be ended, and the one that asks is marked."""
    _, here = await sign_in(accounts)
    token, there = await sign_in(accounts)
    listed = (await accounts.http.get("/api/auth/sessions", headers=here)).json()
    assert [item["current"] for item in listed["items"]] == [False, True]
    assert {item["client_address"] for item in listed["items"]} == {"192.0.2.1"}
    other = f"/api/auth/sessions/{listed['items'][0]['id']}"
    assert (await accounts.http.delete(other, headers=here)).status_code == 204
    assert (await accounts.http.delete(other, headers=here)).status_code == 404
    assert (await accounts.http.delete("/api/auth/sessions/none", headers=here)).status_code == 404
    assert (await refresh(accounts, token)).status_code == 401
    stranger = await accounts.value(
        "INSERT INTO accounts (kind, role, email, name) VALUES ('customer', 'customer', 'c@example.com', 'C') "
        "RETURNING id"
    )
    await accounts.execute("UPDATE sessions SET account_id = $1 WHERE ended_at IS NULL", stranger)
    mine = f"/api/auth/sessions/{listed['items'][1]['id']}"
    assert (await accounts.http.delete(mine, headers=here)).status_code == 404
    assert there


async def test_a_suspended_account_refreshes_nothing(accounts: Accounts) -> None:
    """The refresh token is as good as none while the account is suspended."""
    token, _ = await sign_in(accounts)
    await accounts.execute("UPDATE accounts SET status = 'suspended'")
    assert (await refresh(accounts, token)).json()["code"] == "session_ended"
