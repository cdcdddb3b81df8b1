"""One's own account: seen, changed, taken away, erased."""

import asyncio
from typing import Any

import httpx
import pytest

from reliability.ids import new_id
from tests.integration.accounts.conftest import CUSTOMER, CUSTOMER_PASSWORD, OWNER, Accounts

NEW = "countess@example.com"
HOME = {"name": "Ada Lovelace", "line1": "12 Garden Street", "city": "London", "postal_code": "N1", "country": "gb"}


async def ask(accounts: Accounts, who: dict[str, str], method: str, path: str, body: Any = None) -> httpx.Response:
    return await accounts.http.request(method, f"/api/me{path}", json=body, headers=who)


async def test_a_profile_is_seen_and_changed(accounts: Accounts) -> None:
    """What is given changes and is told to notifications, what is left out stays."""
    ada = await accounts.customer()
    before = (await ask(accounts, ada, "GET", "")).json()
    assert (before["email"], before["email_verified"], before["marketing_consent"]) == (CUSTOMER, True, False)
    after = (await ask(accounts, ada, "PATCH", "", {"name": "Ada King", "marketing_consent": True})).json()
    assert after == {**before, "name": "Ada King", "marketing_consent": True}
    await accounts.work()
    told = accounts.contacts.calls[-1]
    assert (told.name, told.marketing_consent) == ("Ada King", True)


async def test_another_address_counts_when_both_sides_have_confirmed(accounts: Accounts) -> None:
    """Either order, each click as often as it likes; until then the old one signs in, afterwards the new one."""
    ada = await accounts.customer()
    answer = await ask(accounts, ada, "PATCH", "", {"email": NEW})
    assert (answer.json()["email"], answer.json()["pending_email"]) == (CUSTOMER, NEW)
    await accounts.work()
    assert [mail.to for mail in accounts.mails("email_change")] == [NEW]
    assert [mail.to for mail in accounts.mails("email_change_approval")] == [CUSTOMER]
    assert accounts.mails("email_change_approval")[0].data["new_email"] == NEW
    for _ in range(2):
        assert (await accounts.click("email_change", to=NEW)).status_code == 204
    assert (await ask(accounts, ada, "GET", "")).json()["email"] == CUSTOMER
    for _ in range(2):
        assert (await accounts.click("email_change_approval")).status_code == 204
    assert (await ask(accounts, ada, "GET", "")).json() == {**answer.json(), "email": NEW, "pending_email": None}
    await accounts.work()
    assert [(mail.to, mail.data["new_email"]) for mail in accounts.mails("email_changed")] == [(CUSTOMER, NEW)]
    assert accounts.contacts.calls[-1].email == NEW
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 401
    assert (await accounts.login(NEW, CUSTOMER_PASSWORD)).status_code == 200


async def test_an_address_that_is_taken_is_told_to_its_owner_only(accounts: Accounts) -> None:
    """Asking tells nothing; the owner of the address, clicking, learns why it cannot be, and nobody's address moves."""
    ada = await accounts.customer()
    assert (await ask(accounts, ada, "PATCH", "", {"email": OWNER})).status_code == 200
    await accounts.work()
    assert (await accounts.click("email_change_approval")).status_code == 204
    taken = await accounts.click("email_change", to=OWNER)
    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    assert (await ask(accounts, ada, "GET", "")).json()["email"] == CUSTOMER


async def test_a_second_change_supersedes_the_first(accounts: Accounts) -> None:
    """The links of the first do nothing any more."""
    ada = await accounts.customer()
    await ask(accounts, ada, "PATCH", "", {"email": "first@example.com"})
    await accounts.work()
    approval = accounts.token("email_change_approval")
    await ask(accounts, ada, "PATCH", "", {"email": NEW})
    await accounts.work()
    await accounts.http.post("/api/auth/verify-email", json={"token": approval})
    await accounts.click("email_change", to="first@example.com")
    await accounts.click("email_change", to=NEW)
    assert (await ask(accounts, ada, "GET", "")).json()["email"] == CUSTOMER


async def test_the_export_holds_everything_and_nothing_secret(accounts: Accounts) -> None:
    """Profile, addresses, sessions; no hash, no token."""
    ada = await accounts.customer()
    await ask(accounts, ada, "POST", "/addresses", HOME)
    answer = await ask(accounts, ada, "GET", "/export")
    body = answer.json()
    assert body["profile"]["email"] == CUSTOMER
    assert body["addresses"][0]["line1"] == HOME["line1"]
    assert len(body["sessions"]) == 1
    assert body["sign_ins"] == body["email_changes"] == []
    assert "argon2" not in answer.text
    assert answer.headers["content-disposition"].startswith("attachment")


async def test_an_erased_customer_leaves_an_id_and_nothing_else(accounts: Accounts) -> None:
    """No table holds the name, the address or the street any more; the others are told; the address is free again."""
    ada = await accounts.customer()
    account_id = (await ask(accounts, ada, "GET", "")).json()["id"]
    await ask(accounts, ada, "POST", "/addresses", HOME)
    await ask(accounts, ada, "PATCH", "", {"email": NEW})
    await accounts.work()
    answer = await ask(accounts, ada, "DELETE", "")
    assert (answer.status_code, len(answer.headers.get_list("set-cookie"))) == (204, 2)
    assert (await ask(accounts, ada, "GET", "")).status_code == 401
    tables = ("accounts", "sessions", "mail_tokens", "email_changes", "addresses", "identities", "audit_entries")
    for table in tables:
        left = str(await accounts.value(f"SELECT string_agg(t::text, '\n') FROM {table} AS t"))
        for personal in (CUSTOMER, NEW, "Lovelace", "Garden", "198.51.100"):
            assert personal not in left, table
    assert await accounts.value("SELECT status FROM accounts WHERE id = $1", account_id) == "erased"
    await accounts.work()
    # At once, and when what was on its way has arrived.
    everybody = (accounts.contacts.erased, accounts.parcels.forgotten, accounts.bills.forgotten)
    assert all(told == [(account_id, CUSTOMER)] * 2 for told in everybody)
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)).status_code == 401
    assert (await accounts.sign_up(client="203.0.113.77")).status_code == 201
    assert await accounts.value("SELECT count(*) FROM accounts WHERE email = $1", CUSTOMER) == 1


async def test_everybody_is_asked_until_nothing_is_kept(accounts: Accounts) -> None:
    """While a parcel is on its way its address is needed: orders are asked again, also after somebody was away."""
    ada = await accounts.customer()
    await ask(accounts, ada, "DELETE", "")
    accounts.contacts.away, accounts.parcels.kept = True, True
    waiting = "SELECT count(*) FROM jobs WHERE kind = 'forget_customer' AND state = 'queued'"
    await accounts.work()
    assert await accounts.value(waiting) == 2
    accounts.contacts.away = False
    await accounts.work()
    assert (await accounts.value(waiting), len(accounts.contacts.erased)) == (2, 2)
    accounts.parcels.kept = False
    await accounts.work()
    assert await accounts.value(waiting) == 0


async def test_only_what_is_theirs_is_forgotten(accounts: Accounts) -> None:
    """Former addresses are; one that was never proven, or is somebody's again, may be a stranger's."""
    ada = await accounts.customer()
    account_id = (await ask(accounts, ada, "GET", "")).json()["id"]
    await ask(accounts, ada, "PATCH", "", {"email": NEW})
    await accounts.work()
    await accounts.click("email_change", to=NEW)
    await accounts.click("email_change_approval")
    await ask(accounts, ada, "DELETE", "")
    assert (await accounts.sign_up(client="203.0.113.77")).status_code == 201
    stranger = (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD, client="203.0.113.78")).json()
    accounts.http.cookies.clear()
    await ask(accounts, {"Authorization": f"Bearer {stranger['access_token']}"}, "DELETE", "")
    await accounts.sign_up(client="203.0.113.79")
    await accounts.work()
    by_id = {(each, f"erased-{each}@erased.example") for each in (account_id, stranger["user"]["id"])}
    assert set(accounts.contacts.erased) == {(account_id, NEW), *by_id}
    assert set(accounts.bills.forgotten) == {(account_id, NEW), (account_id, ""), (stranger["user"]["id"], "")}


async def test_staff_do_not_erase_themselves(accounts: Accounts) -> None:
    """The audit log names them."""
    owner = {"Authorization": f"Bearer {(await accounts.login()).json()['access_token']}"}
    answer = await ask(accounts, owner, "DELETE", "")
    assert (answer.status_code, answer.json()["code"]) == (409, "staff_account")


async def test_an_address_book_has_one_default(accounts: Accounts) -> None:
    """The first is it; another one can be made it; deleting it passes it on."""
    ada = await accounts.customer()
    first = (await ask(accounts, ada, "POST", "/addresses", HOME)).json()
    assert (first["is_default"], first["country"]) == (True, "GB")
    second = (await ask(accounts, ada, "POST", "/addresses", {**HOME, "line1": "Ockham Park"})).json()
    third = (await ask(accounts, ada, "POST", "/addresses", {**HOME, "is_default": True})).json()
    assert (second["is_default"], third["is_default"]) == (False, True)
    assert (await ask(accounts, ada, "POST", f"/addresses/{first['id']}/default")).json()["is_default"]
    assert (await ask(accounts, ada, "DELETE", f"/addresses/{first['id']}")).status_code == 204
    book = (await ask(accounts, ada, "GET", "/addresses")).json()["items"]
    assert [(item["id"], item["is_default"]) for item in book] == [(third["id"], True), (second["id"], False)]


async def test_racing_defaults_leave_one(accounts: Accounts) -> None:
    """Whoever is last has it, and nobody fails."""
    ada = await accounts.customer()
    ids = [(await ask(accounts, ada, "POST", "/addresses", HOME)).json()["id"] for _ in range(5)]
    answers = await asyncio.gather(*(ask(accounts, ada, "POST", f"/addresses/{each}/default") for each in ids))
    assert {answer.status_code for answer in answers} == {200}
    assert await accounts.value("SELECT count(*) FROM addresses WHERE is_default") == 1


async def test_an_address_is_changed_in_part(accounts: Accounts) -> None:
    """Left out stays, null takes away what need not be there, and nothing else."""
    ada = await accounts.customer()
    path = f"/addresses/{(await ask(accounts, ada, 'POST', '/addresses', {**HOME, 'line2': 'Flat 2'})).json()['id']}"
    changed = (await ask(accounts, ada, "PATCH", path, {"city": "Leeds", "line2": None})).json()
    assert (changed["city"], changed["line2"], changed["line1"]) == ("Leeds", None, HOME["line1"])
    assert (await ask(accounts, ada, "PATCH", path, {"city": None})).status_code == 422


async def test_the_same_click_adds_one_address(accounts: Accounts) -> None:
    """With the same key, the first answer again."""
    ada = {**await accounts.customer(), "Idempotency-Key": new_id()}
    first, second = [await ask(accounts, ada, "POST", "/addresses", HOME) for _ in range(2)]
    assert (first.status_code, second.json()) == (201, first.json())
    assert second.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(("method", "end"), [("PATCH", ""), ("DELETE", ""), ("POST", "/default")])
async def test_somebody_elses_address_is_not_there(accounts: Accounts, method: str, end: str) -> None:
    """404, as for one that does not exist, and nothing changes."""
    ada = await accounts.customer()
    address = (await ask(accounts, ada, "POST", "/addresses", HOME)).json()["id"]
    eve = await accounts.customer("eve@example.com")
    for each in (address, new_id(), "none"):
        body = {"city": "Leeds"} if method == "PATCH" else None
        answer = await ask(accounts, eve, method, f"/addresses/{each}{end}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "address_not_found")
    assert (await ask(accounts, ada, "GET", "/addresses")).json()["items"][0]["city"] == "London"


@pytest.mark.parametrize("wrong", [{"country": "GBR"}, {"line1": " "}, {"name": "a\nb"}, {"phone": "call me"}])
async def test_a_senseless_address_is_refused(accounts: Accounts, wrong: dict[str, Any]) -> None:
    """The field is named."""
    answer = await ask(accounts, await accounts.customer(), "POST", "/addresses", {**HOME, **wrong})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/{next(iter(wrong))}"
