"""A second factor: proven before it counts, each code once, and a way in when the authenticator is lost."""

import time
from typing import Any

import httpx
import pyotp
import pytest

from services.accounts.second_factor.totp import Totp
from tests.integration.accounts.conftest import OWNER, PASSWORD, Accounts

NOW = int(time.time())


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still: a slow machine makes no code a late one."""
    monkeypatch.setattr(Totp.__init__, "__defaults__", (lambda: NOW,))


def code(secret: str, steps: int = 0) -> str:
    """What the authenticator shows, so many steps from now."""
    return pyotp.TOTP(secret).at(NOW + 30 * steps)


async def sign_in(accounts: Accounts, client: str, **factor: str) -> httpx.Response:
    body = {"email": OWNER, "password": PASSWORD, **factor}
    await accounts.runtime.cache.client.flushall()  # the limits are tested elsewhere
    answer = await accounts.http.post("/api/auth/login", json=body, headers={"X-Client-Address": client})
    accounts.http.cookies.clear()
    return answer


async def header(accounts: Accounts, **factor: str) -> dict[str, str]:
    answer = await sign_in(accounts, "192.0.2.1", **factor)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def post(accounts: Accounts, path: str, body: dict[str, Any], who: dict[str, str]) -> httpx.Response:
    return await accounts.http.post(f"/api/auth/totp{path}", json=body, headers=who)


async def enrolled(accounts: Accounts) -> tuple[str, list[str], dict[str, str]]:
    """An owner with a second factor: its secret, the recovery codes, and who they are."""
    who = await header(accounts)
    secret = (await post(accounts, "", {"password": PASSWORD}, who)).json()["secret"]
    # A step ago: the code of this one is still good for signing in.
    answer = await post(accounts, "/confirm", {"totp": code(secret, -1)}, who)
    assert answer.status_code == 200, answer.text
    return secret, answer.json()["recovery_codes"], who


async def test_a_proposed_factor_counts_once_it_is_proven(accounts: Accounts) -> None:
    """Whoever closes the page halfway can still sign in; a wrong code proves nothing."""
    who = await header(accounts)
    wrong = await post(accounts, "", {"password": "not my password"}, who)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/password")
    proposal = (await post(accounts, "", {"password": PASSWORD}, who)).json()
    assert proposal["uri"].startswith("otpauth://totp/Holdfast:")
    assert (await sign_in(accounts, "192.0.2.2")).status_code == 200
    never = code(proposal["secret"], 50)
    assert (await post(accounts, "/confirm", {"totp": never}, who)).status_code == 422
    assert (await post(accounts, "/confirm", {"totp": code(proposal["secret"])}, who)).status_code == 200
    assert (await sign_in(accounts, "192.0.2.3")).json()["code"] == "totp_required"
    assert (await accounts.http.get("/api/me", headers=who)).json()["second_factor"] is True


async def test_confirming_without_a_proposal_is_a_conflict(accounts: Accounts) -> None:
    """There is nothing to confirm, and nothing to take away."""
    who = await header(accounts)
    for path in ("/confirm", "/remove"):
        assert (await post(accounts, path, {"totp": "123456"}, who)).json()["code"] == "second_factor_missing"


async def test_a_code_opens_once(accounts: Accounts) -> None:
    """Whoever looked over a shoulder is too late; so is the code that confirmed."""
    secret, _, _ = await enrolled(accounts)
    now = code(secret)
    assert (await sign_in(accounts, "192.0.2.2", totp=code(secret, -1))).status_code == 401
    assert (await sign_in(accounts, "192.0.2.2", totp=now)).status_code == 200
    assert (await sign_in(accounts, "192.0.2.2", totp=now)).json()["code"] == "invalid_credentials"


async def test_a_recovery_code_opens_once_however_it_is_written(accounts: Accounts) -> None:
    """Ten, none of them twice, and the audit log tells of each that was used."""
    _, codes, _ = await enrolled(accounts)
    assert len(set(codes)) == 10
    typed = codes[0].lower().replace("-", " ")
    assert (await sign_in(accounts, "192.0.2.2", recovery_code=typed)).status_code == 200
    assert (await sign_in(accounts, "192.0.2.2", recovery_code=codes[0])).status_code == 401
    assert (await sign_in(accounts, "192.0.2.2", recovery_code=codes[1])).status_code == 200
    used = "SELECT count(*) FROM audit_entries WHERE action = 'staff.recovery_code_used'"
    assert await accounts.value(used) == 2


async def test_enrolling_ends_the_other_sessions(accounts: Accounts) -> None:
    """They were begun without it."""
    other = await header(accounts)
    _, _, own = await enrolled(accounts)
    assert (await accounts.http.get("/api/me", headers=other)).status_code == 401
    assert (await accounts.http.get("/api/me", headers=own)).status_code == 200


async def test_a_factor_is_replaced_by_whoever_has_it(accounts: Accounts) -> None:
    """A password and an open browser are not enough to take it away."""
    secret, codes, who = await enrolled(accounts)
    assert (await post(accounts, "", {"password": PASSWORD}, who)).json()["code"] == "second_factor_exists"
    assert (await post(accounts, "/remove", {"totp": code(secret, 50)}, who)).status_code == 422
    assert (await post(accounts, "/remove", {}, who)).status_code == 422
    assert (await post(accounts, "/remove", {"recovery_code": codes[3]}, who)).status_code == 204
    assert (await sign_in(accounts, "192.0.2.2")).status_code == 200
    assert await accounts.value("SELECT count(*) FROM recovery_codes") == 0
    assert await accounts.value("SELECT array_agg(action ORDER BY id) FROM audit_entries") == [
        "staff.second_factor_enrolled",
        "staff.recovery_code_used",
        "staff.second_factor_removed",
    ]


async def test_no_secret_and_no_code_is_stored(accounts: Accounts) -> None:
    """Whoever reads the database can make no code."""
    secret, codes, _ = await enrolled(accounts)
    dump = ""
    for table in ("accounts", "recovery_codes", "audit_entries", "jobs"):
        dump += str(await accounts.value(f"SELECT string_agg(t::text, '\n') FROM {table} AS t"))
    assert secret.encode().hex() not in dump
    for each in (secret, *codes):
        assert each not in dump
        assert each.replace("-", "") not in dump


async def test_guesses_are_counted(accounts: Accounts) -> None:
    """Five in a window, for enrolling, confirming and taking away together."""
    secret, _, who = await enrolled(accounts)
    wrong = code(secret, 50)
    answers = [await post(accounts, "/remove", {"totp": wrong}, who) for _ in range(6)]
    assert [answer.status_code for answer in answers][-2:] == [429, 429]
    assert (await post(accounts, "/remove", {"totp": code(secret)}, who)).status_code == 429
