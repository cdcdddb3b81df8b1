"""Signing in with OpenID Connect, at a real provider on another port."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken

from reliability.http import HttpClient
from reliability.tokens import ACCESS_COOKIE
from services.accounts.oauth.domain import Attempt, own_path
from services.accounts.oauth.errors import SignInFailed
from services.accounts.oauth.provider import Provider
from services.accounts.oauth.routes import ATTEMPT_COOKIE
from services.accounts.oauth.schemas import OauthProvider
from tests.integration.accounts.conftest import CUSTOMER, CUSTOMER_PASSWORD, OWNER, Accounts, MakeAccounts

PUBLIC = "http://shop.test"
ADA: dict[str, Any] = {"email": CUSTOMER, "email_verified": True, "name": "Ada Lovelace"}


@dataclass
class Issuer:
    """A provider that lets everybody in as whoever they say they are."""

    url: str

    def knows(self, subject: str, **claims: Any) -> None:
        """What it says of somebody."""
        httpx.put(f"{self.url}/users/{subject}", json=claims).raise_for_status()

    def register(self) -> dict[str, str]:
        """A client of our own with a secret, and one address to come back to."""
        body = {"redirect_uris": [f"{PUBLIC}/api/auth/oauth/mock/callback"]}
        answer = httpx.post(f"{self.url}/oauth2/clients", json=body).raise_for_status().json()
        return {"issuer": self.url, "client_id": answer["client_id"], "client_secret": answer["client_secret"]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider that insists on registered clients and a nonce."""
    with oidc_provider_mock.run_server_in_thread(require_client_registration=True, require_nonce=True) as server:
        yield Issuer(f"http://localhost:{server.server_port}")


async def shop(make_accounts: MakeAccounts, issuer: Issuer) -> Accounts:
    """Accounts that trusts the provider."""
    return await make_accounts(public_url=PUBLIC, oauth_providers={"mock": issuer.register()})


async def start(accounts: Accounts, **query: str) -> tuple[str, str]:
    """Where the browser is sent, and the cookie it got."""
    answer = await accounts.http.get("/api/auth/oauth/mock/start", params=query)
    assert answer.status_code == 302, answer.text
    cookie = answer.cookies[ATTEMPT_COOKIE]
    accounts.http.cookies.clear()
    return answer.headers["location"], cookie


async def consent(url: str, subject: str, **form: str) -> str:
    """Signs in at the provider; where it sends the browser back to."""
    async with httpx.AsyncClient() as browser:
        answer = await browser.post(url, data={"sub": subject, **form})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


async def come_back(accounts: Accounts, url: str, cookie: str | None) -> httpx.Response:
    headers = {"Cookie": f"{ATTEMPT_COOKIE}={cookie}"} if cookie else {}
    answer = await accounts.http.get(url, headers=headers)
    accounts.http.cookies.clear()
    return answer


async def sign_in(accounts: Accounts, subject: str, **query: str) -> httpx.Response:
    url, cookie = await start(accounts, **query)
    return await come_back(accounts, await consent(url, subject), cookie)


async def whoami(accounts: Accounts, signed_in: httpx.Response) -> dict[str, Any]:
    header = {"Authorization": f"Bearer {signed_in.cookies[ACCESS_COOKIE]}"}
    return dict((await accounts.http.get("/api/me", headers=header)).json())


async def test_a_new_customer_signs_in_and_is_known_again(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """One account, proven, without a password; the second time it is the same one, whatever the address is by then."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    first = await sign_in(accounts, "ada", return_to="/cart?from=sign-in")
    assert (first.status_code, first.headers["location"]) == (302, "/cart?from=sign-in")
    me = await whoami(accounts, first)
    assert (me["email"], me["name"], me["email_verified"], me["has_password"]) == (
        CUSTOMER,
        "Ada Lovelace",
        True,
        False,
    )
    issuer.knows("ada", **ADA | {"email": "moved@example.com"})
    assert (await whoami(accounts, await sign_in(accounts, "ada")))["id"] == me["id"]
    assert await accounts.value("SELECT count(*) FROM accounts WHERE kind = 'customer'") == 1
    await accounts.work()
    assert [call.email for call in accounts.contacts.calls] == [CUSTOMER]


async def test_the_question_names_state_nonce_and_challenge(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """All new each time, and the verifier is in none of them."""
    accounts = await shop(make_accounts, issuer)
    asked = [parse_qs(urlsplit((await start(accounts))[0]).query) for _ in range(2)]
    for each in asked:
        assert each["response_type"] == ["code"]
        assert each["code_challenge_method"] == ["S256"]
        assert each["redirect_uri"] == [f"{PUBLIC}/api/auth/oauth/mock/callback"]
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name][0]) >= 43


async def test_a_verified_address_is_linked_to_its_account(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Whoever has an account keeps it, and both ways lead to it."""
    accounts = await shop(make_accounts, issuer)
    header = await accounts.customer()
    own = (await accounts.http.get("/api/me", headers=header)).json()["id"]
    issuer.knows("linked", **ADA | {"email": CUSTOMER.upper()})
    assert (await whoami(accounts, await sign_in(accounts, "linked")))["id"] == own
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD, client="192.0.2.50")).status_code == 200


@pytest.mark.parametrize("claims", [{"email_verified": False}, {"email_verified": "true"}, {"email": "no address"}, {}])
async def test_an_unverified_address_opens_nothing(
    make_accounts: MakeAccounts, issuer: Issuer, claims: dict[str, Any]
) -> None:
    """Anybody can type any address at some providers; only one that is said to be verified counts."""
    accounts = await shop(make_accounts, issuer)
    await accounts.customer()
    issuer.knows("mallory", **({"email": CUSTOMER} | claims))
    refused = await sign_in(accounts, "mallory")
    assert (refused.status_code, refused.json()["code"]) == (403, "email_not_verified")
    assert await accounts.value("SELECT count(*) FROM identities") == 0


async def test_an_account_nobody_proved_goes_to_whoever_proves_it(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Mallory signed up with Ada's address and waits: her password and her session end with Ada's first sign-in."""
    accounts = await shop(make_accounts, issuer)
    assert (await accounts.sign_up()).status_code == 201
    planted = await accounts.login(CUSTOMER, CUSTOMER_PASSWORD)
    assert planted.status_code == 200
    # A second factor of hers would keep Ada out for good.
    await accounts.execute("UPDATE accounts SET totp_secret = '\\x00' WHERE email = $1", CUSTOMER)
    issuer.knows("ada", **ADA)
    assert (await whoami(accounts, await sign_in(accounts, "ada")))["has_password"] is False
    accounts.http.cookies.clear()
    assert (await accounts.login(CUSTOMER, CUSTOMER_PASSWORD, client="192.0.2.51")).status_code == 401
    header = {"Authorization": f"Bearer {planted.json()['access_token']}"}
    assert (await accounts.http.get("/api/me", headers=header)).status_code == 401
    await accounts.work()
    assert not accounts.mails("email_verification"), "the link to Mallory's password is void"


async def test_staff_and_the_suspended_do_not_sign_in_this_way(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """A provider is not trusted with the counter."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("boss", email=OWNER, email_verified=True)
    assert (await sign_in(accounts, "boss")).json()["code"] == "sign_in_refused"
    issuer.knows("ada", **ADA)
    assert (await sign_in(accounts, "ada")).status_code == 302
    await accounts.execute("UPDATE accounts SET status = 'suspended' WHERE kind = 'customer'")
    assert (await sign_in(accounts, "ada")).json()["code"] == "sign_in_refused"
    await accounts.execute("UPDATE accounts SET status = 'active', totp_secret = 'x' WHERE kind = 'customer'")
    assert (await sign_in(accounts, "ada")).json()["code"] == "totp_required"


async def test_an_answer_counts_in_the_browser_that_asked(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Without the cookie, with another attempt's or with a cookie that is not ours, nobody is signed in."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    url, _ = await start(accounts)
    _, others = await start(accounts)
    back = await consent(url, "ada")
    for cookie in (None, others, "made-up", others[:-2]):
        refused = await come_back(accounts, back, cookie)
        assert (refused.status_code, refused.json()["code"]) == (401, "sign_in_failed")
        assert ACCESS_COOKIE not in refused.cookies
    assert await accounts.value("SELECT count(*) FROM sessions") == 0


async def test_a_code_works_once_and_for_its_own_question(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Coming back twice is refused by the provider; a code put into another attempt fails on its nonce."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    url, cookie = await start(accounts)
    back = await consent(url, "ada")
    assert (await come_back(accounts, back, cookie)).status_code == 302
    assert (await come_back(accounts, back, cookie)).json()["code"] == "sign_in_failed"
    other_url, other_cookie = await start(accounts)
    stolen = parse_qs(urlsplit(await consent(url, "ada")).query)["code"][0]
    own = await consent(other_url, "ada")
    injected = re.sub(r"code=[^&]+", f"code={stolen}", own)
    assert (await come_back(accounts, injected, other_cookie)).json()["code"] == "sign_in_failed"


async def test_what_the_provider_refuses_is_refused(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Somebody who says no there, an answer of another issuer, and an attempt that took too long."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    url, cookie = await start(accounts)
    state = parse_qs(urlsplit(url).query)["state"][0]
    path = f"{PUBLIC}/api/auth/oauth/mock/callback?state={state}"
    for answer in ("&error=access_denied", "", "&code=x&iss=https://evil.example", "&code=made-up"):
        assert (await come_back(accounts, path + answer, cookie)).json()["code"] == "sign_in_failed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.accounts.oauth.service.LIFETIME", -1)
        url, late = await start(accounts)
    assert (await come_back(accounts, await consent(url, "ada"), late)).json()["code"] == "sign_in_failed"


async def test_a_token_for_another_client_or_of_another_issuer_is_refused(
    make_accounts: MakeAccounts, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider's token says whom it is for; one that was made for another shop opens nothing here."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    for expected in ("value", "nonce"):
        with monkeypatch.context() as patch:
            patch.setattr("services.accounts.oauth.provider.CodeIDToken", _expecting(expected))
            assert (await sign_in(accounts, "ada")).json()["code"] == "sign_in_failed"
    assert (await sign_in(accounts, "ada")).status_code == 302


def _expecting(what: str) -> Any:
    """The check of a shop that has another client id, or asked with another nonce."""

    def check(claims: Any, header: Any, expected: Any, given: Any) -> Any:
        if what == "value":
            expected = expected | {"aud": {"essential": True, "value": "another shop"}}
        else:
            given = given | {"nonce": "another"}
        return CodeIDToken(claims, header, expected, given)

    return check


async def test_a_provider_that_is_away_is_503_and_one_nobody_named_404(make_accounts: MakeAccounts) -> None:
    """The shop stays open; the other ways to sign in work."""
    settings = {"issuer": "http://localhost:9", "client_id": "x"}
    accounts = await make_accounts(public_url=PUBLIC, oauth_providers={"mock": settings})
    assert (await accounts.http.get("/api/auth/oauth/mock/start")).status_code == 503
    assert (await accounts.http.get("/api/auth/oauth/other/start")).json()["code"] == "provider_not_found"
    callback = await accounts.http.get("/api/auth/oauth/other/callback", params={"state": "x"})
    assert callback.json()["code"] == "provider_not_found"
    assert (await accounts.login()).status_code == 200


async def test_an_issuer_that_says_to_be_another_is_not_believed(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """Discovery answers for exactly the issuer in the settings (OpenID Connect Discovery 1.0, section 4.3)."""
    settings = issuer.register() | {"issuer": f"{issuer.url}/"}
    accounts = await make_accounts(public_url=PUBLIC, oauth_providers={"mock": settings})
    assert (await accounts.http.get("/api/auth/oauth/mock/start")).status_code == 503


async def test_the_code_goes_with_the_verifier_of_its_challenge() -> None:
    """Whoever intercepts a code has not got what it takes to redeem it (RFC 7636)."""
    forms: list[dict[str, list[str]]] = []
    home = "https://login.example"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            forms.append(parse_qs(request.content.decode()))
            return httpx.Response(400, json={"error": "invalid_grant"})
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return httpx.Response(200, json={"issuer": home, **{name: f"{home}/{path}" for name, path in names.items()}})

    http = HttpClient("oauth-test", transport=httpx.MockTransport(answer))
    provider = Provider("test", OauthProvider(issuer=home, client_id="public"), http)
    attempt = Attempt("test", "state", "nonce", "v" * 43, "/", 0)
    asked = parse_qs(urlsplit(await provider.authorization_url(attempt, "https://shop.test/back")).query)
    with pytest.raises(SignInFailed):
        await provider.identity("the code", attempt, "https://shop.test/back")
    (form,) = forms
    assert asked["code_challenge"] == [create_s256_code_challenge(form["code_verifier"][0])]
    assert (form["code"], form["client_id"], form["redirect_uri"]) == (["the code"], ["public"], asked["redirect_uri"])
    await http.close()


async def test_nothing_secret_of_an_attempt_is_stored(make_accounts: MakeAccounts, issuer: Issuer) -> None:
    """The cookie is sealed, and the database knows the subject only."""
    accounts = await shop(make_accounts, issuer)
    issuer.knows("ada", **ADA)
    url, cookie = await start(accounts)
    back = await consent(url, "ada")
    query = parse_qs(urlsplit(url).query)
    for secret in (query["state"][0], query["nonce"][0]):
        assert secret not in cookie
    await come_back(accounts, back, cookie)
    dump = ""
    for table in ("identities", "sessions", "jobs", "accounts"):
        dump += str(await accounts.value(f"SELECT string_agg(t::text, '\n') FROM {table} AS t"))
    code = parse_qs(urlsplit(back).query)["code"][0]
    for secret in (code, query["state"][0], query["nonce"][0]):
        assert secret not in dump


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/", True),
        ("/cart?a=1", True),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("https://evil.example", False),
        ("javascript:alert(1)", False),
        ("", False),
        ("/a\nb", False),
        ("/a\r\nSet-Cookie: x=y", False),
    ],
)
async def test_nobody_is_sent_to_another_site_afterwards(accounts: Accounts, path: str, own: bool) -> None:
    """What a browser would take for another host is no path of ours."""
    assert own_path(path) is own
    if not own:
        answer = await accounts.http.get("/api/auth/oauth/any/start", params={"return_to": path})
        assert answer.status_code == 422


@pytest.mark.parametrize("issuer_url", ["http://login.example", "ftp://login.example", "login.example"])
def test_an_issuer_in_the_clear_is_refused_at_start(issuer_url: str) -> None:
    """The client's secret goes there."""
    with pytest.raises(ValueError, match="https"):
        OauthProvider(issuer=issuer_url, client_id="x")
    assert OauthProvider(issuer="http://localhost:1", client_id="x").issuer
