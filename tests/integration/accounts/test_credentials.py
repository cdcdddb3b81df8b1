"""Opening an account, proving an address, choosing passwords."""

from typing import Any

import httpx
import pyotp
import pytest

from services.accounts.passwords import Passwords
from tests.integration.accounts.conftest import CUSTOMER, CUSTOMER_PASSWORD, OWNER, PASSWORD, Accounts

NEW_PASSWORD = "another fine marmalade sandwich"


async def post(accounts: Accounts, path: str, body: Any, **headers: str) -> httpx.Response:
    return await accounts.http.post(f"/api/auth/{path}", json=body, headers=headers)


def shape(answer: httpx.Response) -> Any:
    """What a stranger sees of an answer but for what is different every time."""
    body = {**answer.json(), "id": "", "correlation_id": ""}
    return answer.status_code, body, sorted(answer.headers)


async def test_a_customer_signs_up_and_proves_the_address(accounts: Accounts) -> None:
    """201 and a mail; the link proves the address once, clicking again does no harm; only then is consent told."""
    answer = await accounts.sign_up(marketing_consent=True)
    assert answer.status_code == 201
    assert answer.json() == {"id": await accounts.value("SELECT id::text FROM accounts WHERE email = $1", CUSTOMER),
                             "email": CUSTOMER}  # fmt: skip
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).json()["user"]["role"] == "customer"
    await accounts.work()
    assert accounts.contacts.calls == []
    (mail,) = accounts.mails("email_verification")
    assert (mail.to, mail.data["customer_name"], mail.data["valid_minutes"]) == (CUSTOMER, "Ada Lovelace", 1440)
    assert [(await accounts.click("email_verification")).status_code for _ in range(2)] == [204, 204]
    await accounts.work()
    assert [(call.email, call.marketing_consent) for call in accounts.contacts.calls] == [(CUSTOMER, True)]
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 200  # nobody was signed out


async def test_nobody_learns_by_signing_up_who_has_an_account(accounts: Accounts) -> None:
    """An unknown, an unproven and a proven address get the same answer after the same work; their owner gets a mail."""
    unknown = await accounts.sign_up()
    unproven = await accounts.sign_up(client="192.0.2.8", email=CUSTOMER.upper())
    proven = await accounts.sign_up(client="192.0.2.9", email=OWNER)
    assert shape(unknown)[0] == shape(unproven)[0] == shape(proven)[0] == 201
    assert shape(unknown)[2] == shape(unproven)[2] == shape(proven)[2]
    assert len({answer.json()["id"] for answer in (unknown, unproven, proven)}) == 3
    await accounts.work()
    assert [mail.to for mail in accounts.mails("account_exists")] == [OWNER]
    assert len(accounts.mails("email_verification")) == 2
    assert (await accounts.login()).status_code == 200  # the owner's password is what it was


async def test_an_address_belongs_to_whoever_answers_its_mail(accounts: Accounts) -> None:
    """Somebody signs up with another's address first: the password of the one who proves it counts, and only that."""
    await accounts.sign_up(password="the thief came here first")
    thief = (await accounts.login(CUSTOMER, "the thief came here first")).json()["access_token"]
    accounts.http.cookies.clear()
    await accounts.work()
    await accounts.sign_up(client="192.0.2.8")
    await accounts.work()
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 401
    assert (await accounts.click("email_verification")).status_code == 204
    stolen = {"Authorization": f"Bearer {thief}"}
    assert (await accounts.http.get("/api/auth/sessions", headers=stolen)).status_code == 401
    assert (await accounts.login(CUSTOMER, "the thief came here first")).status_code == 401
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 200


async def left_behind(accounts: Accounts) -> None:
    """Somebody who signed up with another's address leaves a second factor, a parcel address and a move behind."""
    await accounts.sign_up(password="the thief came here first")
    await accounts.work()  # of two links handed over at once either may be the last
    answer = await accounts.login(CUSTOMER, "the thief came here first", client="203.0.113.5")
    accounts.http.cookies.clear()
    header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    factor = await post(accounts, "totp", {"password": "the thief came here first"}, **header)
    code = pyotp.TOTP(factor.json()["secret"]).now()
    assert (await post(accounts, "totp/confirm", {"totp": code}, **header)).status_code == 200
    parcel = {"name": "T. Hief", "line1": "Den 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}
    assert (await accounts.http.post("/api/me/addresses", json=parcel, headers=header)).status_code == 201
    assert (await accounts.http.patch("/api/me", json={"email": "t@hief.example"}, headers=header)).status_code == 200


@pytest.mark.parametrize("by", ["verifying", "resetting"])
async def test_nothing_planted_waits_for_whoever_proves_an_address(accounts: Accounts, by: str) -> None:
    """A second factor of the thief's would lock its owner out, an address would have their parcels."""
    await left_behind(accounts)
    if by == "verifying":
        await accounts.sign_up(client="192.0.2.8")
        await accounts.work()
        assert (await accounts.click("email_verification")).status_code == 204
    else:
        await post(accounts, "password/forgot", {"email": CUSTOMER})
        await accounts.work()
        body = {"token": accounts.token("password_reset"), "password": CUSTOMER_PASSWORD}
        assert (await post(accounts, "password/reset", body)).status_code == 204
    answer = await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)
    assert answer.status_code == 200, answer.text
    header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await accounts.http.get("/api/me/addresses", headers=header)).json()["items"] == []
    assert (await accounts.http.get("/api/me", headers=header)).json()["pending_email"] is None
    assert await accounts.value("SELECT count(*) FROM recovery_codes") == 0


async def test_an_earlier_link_changes_no_password_of_a_proven_address(accounts: Accounts) -> None:
    """The thief's own link, clicked late, sets nothing any more."""
    await accounts.sign_up(password="the thief came here first")
    await accounts.work()
    early = accounts.token("email_verification")
    await accounts.sign_up(client="192.0.2.8")
    await accounts.work()
    await accounts.click("email_verification")
    assert (await post(accounts, "verify-email", {"token": early})).status_code == 204
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 200


async def test_three_signups_in_a_quarter_of_an_hour(accounts: Accounts) -> None:
    """The fourth of a client is refused, whoever it is for; so is the fourth for one address, from wherever."""
    answers = [await accounts.sign_up(f"ada{n}@example.com") for n in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    assert answers[3].json()["code"] == "rate_limited"
    assert int(answers[3].headers["retry-after"]) > 0
    answers = [await accounts.sign_up(client=f"203.0.113.{n}") for n in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]


@pytest.mark.parametrize(
    "password", ["short", "password1234", "qwertyuiop123", "ada@example.com", "AdaLovelace", "a" * 1024]
)
async def test_a_password_that_is_easily_guessed_is_refused(accounts: Accounts, password: str) -> None:
    """Common ones, and what is known of the customer; nothing is counted or stored."""
    answer = await accounts.sign_up(password=password)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/password")
    assert await accounts.value("SELECT count(*) FROM accounts") == 1
    assert password not in answer.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "nobody"},
        {"email": "a@b@c"},
        {"name": " "},
        {"name": "Ada\r\nBcc: x@y.z"},
        {"password": ""},
        {"name": 5},
    ],
)
async def test_a_senseless_signup_is_refused(accounts: Accounts, wrong: dict[str, Any]) -> None:
    """The field is named."""
    answer = await accounts.sign_up(**wrong)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(wrong))}"


async def test_a_forgotten_password_is_set_anew_and_every_device_is_out(accounts: Accounts) -> None:
    """The link works once; the old password and every session are over, and a mail says so."""
    here = await accounts.customer()
    assert (await post(accounts, "password/forgot", {"email": CUSTOMER})).status_code == 202
    await accounts.work()
    token = accounts.token("password_reset")
    body = {"token": token, "password": NEW_PASSWORD}
    assert (await post(accounts, "password/reset", body)).status_code == 204
    await accounts.work()
    assert [mail.to for mail in accounts.mails("password_changed")] == [CUSTOMER]
    assert await accounts.value("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 401
    assert (await accounts.login(CUSTOMER, NEW_PASSWORD)).status_code == 200
    again = await post(accounts, "password/reset", {**body, "password": "yet another sandwich, with ham"})
    assert (again.status_code, again.json()["code"]) == (400, "invalid_token")
    assert (await post(accounts, "password/reset", body)).status_code == 204  # the first answer was lost
    await accounts.work()
    assert len(accounts.mails("password_changed")) == 1
    assert here


async def test_nobody_learns_by_forgetting_who_has_an_account(accounts: Accounts) -> None:
    """The answer and the statements are the same; only an account gets a mail."""
    known = await post(accounts, "password/forgot", {"email": OWNER})
    unknown = await post(accounts, "password/forgot", {"email": "nobody@example.com"})
    assert shape(known)[:2] == shape(unknown)[:2] == (202, {"status": "accepted", "id": "", "correlation_id": ""})
    assert [row["n"] for row in await _jobs(accounts)] == [2]
    await accounts.work()
    assert [mail.to for mail in accounts.contacts.mails] == [OWNER]


async def _jobs(accounts: Accounts) -> list[Any]:
    async with accounts.runtime.database.connection() as connection:
        return list(await connection.fetch("SELECT kind, count(*) AS n FROM jobs GROUP BY kind"))


async def test_resets_are_limited(accounts: Accounts) -> None:
    """Three mails per address and quarter of an hour, from wherever they are asked for."""
    answers = [
        await post(accounts, "password/forgot", {"email": OWNER}, **{"X-Client-Address": f"192.0.2.{n}"})
        for n in range(4)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]


@pytest.mark.parametrize("purpose", ["verify_email", "reset_password"])
async def test_a_link_runs_out(accounts: Accounts, purpose: str) -> None:
    """Past its time it is like any made-up one."""
    await accounts.sign_up()
    await post(accounts, "password/forgot", {"email": CUSTOMER})
    await accounts.work()
    await accounts.work()
    token = accounts.token("email_verification" if purpose == "verify_email" else "password_reset")
    await accounts.execute("UPDATE mail_tokens SET expires_at = now()")
    path, extra = ("verify-email", {}) if purpose == "verify_email" else ("password/reset", {"password": NEW_PASSWORD})
    for each in (token, token[:-1] + "A", "made-up", "ä"):
        answer = await post(accounts, path, {"token": each, **extra})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_token")


async def test_a_link_is_for_one_thing(accounts: Accounts) -> None:
    """A link that proves an address sets no password, and the other way round."""
    await accounts.sign_up()
    await post(accounts, "password/forgot", {"email": CUSTOMER})
    await accounts.work()
    await accounts.work()
    wrong = {"token": accounts.token("email_verification"), "password": NEW_PASSWORD}
    assert (await post(accounts, "password/reset", wrong)).status_code == 400
    assert (await post(accounts, "verify-email", {"token": accounts.token("password_reset")})).status_code == 400


async def test_no_link_is_stored_here(accounts: Accounts) -> None:
    """Whoever reads our database can click on nothing."""
    await accounts.sign_up()
    await accounts.work()
    token = accounts.token("email_verification")
    for table in ("mail_tokens", "jobs", "accounts"):
        assert token not in str(await accounts.value(f"SELECT string_agg(t::text, '\n') FROM {table} AS t"))


async def test_changing_the_password_ends_all_other_sessions(accounts: Accounts) -> None:
    """The one that asks stays; the wrong current password, or a weak new one, changes nothing."""
    here = await accounts.customer()
    other = (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).json()["access_token"]
    accounts.http.cookies.clear()

    async def change(current: str, new: str) -> httpx.Response:
        body = {"current_password": current, "new_password": new}
        return await post(accounts, "password/change", body, **here)

    wrong, weak = await change("wrong", NEW_PASSWORD), await change(CUSTOMER_PASSWORD, "password1234")
    assert wrong.json()["errors"] == [{"pointer": "/current_password", "message": "is not your password"}]
    assert weak.json()["errors"][0]["pointer"] == "/new_password"
    assert (await change(CUSTOMER_PASSWORD, NEW_PASSWORD)).status_code == 204
    await accounts.work()
    assert [mail.to for mail in accounts.mails("password_changed")] == [CUSTOMER]
    assert (await accounts.http.get("/api/auth/sessions", headers=here)).status_code == 200
    gone = {"Authorization": f"Bearer {other}"}
    assert (await accounts.http.get("/api/auth/sessions", headers=gone)).status_code == 401
    assert (await accounts.login(CUSTOMER, NEW_PASSWORD)).status_code == 200


async def test_guessing_the_current_password_is_limited(accounts: Accounts) -> None:
    """A stolen session is no way to the password."""
    here = await accounts.customer()
    body = {"current_password": "wrong", "new_password": NEW_PASSWORD}
    answers = [await post(accounts, "password/change", body, **here) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429]


async def test_a_login_that_races_a_new_password_loses(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old password was right when it was looked at, and is not when the session would begin: no session."""
    real = Passwords.verify

    async def verify(self: Passwords, stored: str | None, password: str) -> bool:
        matches = await real(self, stored, password)
        await accounts.execute("UPDATE accounts SET password_hash = password_hash || 'x' WHERE email = $1", OWNER)
        return matches

    monkeypatch.setattr(Passwords, "verify", verify)
    assert (await accounts.login(OWNER, PASSWORD)).status_code == 401
    assert await accounts.value("SELECT count(*) FROM sessions") == 0
