"""Who gets in: every route, every kind of credentials, before anything is called or written."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from reliability.context import Principal
from reliability.tokens import ACCESS_COOKIE, ALGORITHM
from services.accounts.keys.service import SigningKeys
from tests.integration.admin.conftest import OWNER, PASSWORD, MakeAdmin
from tests.integration.admin.support import CAMPAIGNS, DASHBOARD, DRAFT, OTLP, SEND, STAFF, TRACES, Admin

WEBHOOKS, AUDIT_LOG = "/api/admin/webhooks", "/api/admin/audit-log"
SOME_ID = "019a0000-0000-7000-8000-000000000001"


@dataclass(frozen=True)
class Route:
    """A route for staff: its pattern, a path and body that would pass, the permission it needs, what it answers."""

    method: str
    pattern: str
    permission: str
    path: str = ""
    body: Mapping[str, Any] | None = None
    status: int = 200

    async def ask(self, admin: Admin, headers: Mapping[str, str]) -> httpx.Response:
        path = self.path or self.pattern
        return await admin.http.request(self.method, path, json=self.body, headers=dict(headers))


# One of each kind; the access matrix asks every route there is.
ROUTES = (
    Route("POST", CAMPAIGNS, "campaigns", body=DRAFT, status=201),
    Route("POST", SEND, "campaigns", body={"campaign_id": SOME_ID}, status=404),
    Route("GET", f"{CAMPAIGNS}/{{id}}/stats", "campaigns", f"{CAMPAIGNS}/{SOME_ID}/stats", status=404),
    Route("GET", DASHBOARD, ""),
    Route("GET", TRACES, "operations"),
    Route("GET", f"{TRACES}/{{id}}", "operations", f"{TRACES}/{'a' * 32}", status=404),
    Route("GET", WEBHOOKS, "operations"),
    Route("POST", f"{WEBHOOKS}/{{id}}/replay", "operations", f"{WEBHOOKS}/404/replay", body={}, status=404),
    Route("GET", AUDIT_LOG, "staff"),
)


async def refused(admin: Admin, headers: Mapping[str, str], status: int, code: str, routes: Any = ROUTES) -> None:
    """Each of `routes` answers so, as a problem with its correlation id, and no campaign comes of it."""
    before = await _written(admin)
    for route in routes:
        answer = await route.ask(admin, headers)
        problem = answer.json()
        assert (route.path or route.pattern, answer.status_code, problem["code"]) == (
            route.path or route.pattern,
            status,
            code,
        )
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["correlation_id"] == answer.headers["x-correlation-id"]
    assert await _written(admin) == before


async def _written(admin: Admin) -> tuple[int, ...]:
    keys = await admin.value("SELECT count(*) FROM idempotency_keys")
    return keys, await admin.others["notifications"].value("SELECT count(*) FROM campaigns")


def _claims(**changes: Any) -> dict[str, Any]:
    """What a good token of STAFF says; None leaves a claim out."""
    now = int(time.time())
    good = {
        "iss": "holdfast",
        "aud": "holdfast",
        "sub": STAFF.id,
        "iat": now,
        "exp": now + 900,
        "kind": "staff",
        "permissions": sorted(STAFF.permissions),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def _signed(key: OKPKey, kid: str, **changes: Any) -> str:
    return jwt.encode({"alg": ALGORITHM, "kid": kid}, _claims(**changes), key, algorithms=[ALGORITHM])


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _ours(admin: Admin) -> tuple[OKPKey, str]:
    key = OKPKey.import_key(admin.signing_key.read_bytes(), {"use": "sig", "alg": ALGORITHM})
    return key, key.thumbprint()


def expired(admin: Admin) -> str:
    return admin.token(lifetime=-60)


def nonsense(_admin: Admin) -> str:
    return "forged.token.here"


def another_key(_admin: Admin) -> str:
    return SigningKeys(OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "Ed25519"})).access_token(STAFF)


def another_key_under_our_key_id(admin: Admin) -> str:
    return _signed(OKPKey.generate_key("Ed25519"), _ours(admin)[1])


def more_permissions_than_were_signed(admin: Admin) -> str:
    """A customer's token, made staff's without the key."""
    head, _, signature = admin.token(replace(STAFF, kind="customer", permissions=frozenset())).split(".")
    return f"{head}.{_part(_claims())}.{signature}"


def unsigned(_admin: Admin) -> str:
    return f"{_part({'alg': 'none'})}.{_part(_claims())}."


def public_key_as_a_shared_secret(admin: Admin) -> str:
    """The classic confusion: HMAC with what everybody may read."""
    key, kid = _ours(admin)
    signed = f"{_part({'alg': 'HS256', 'kid': kid})}.{_part(_claims())}"
    public = key.as_pem(private=False)
    return f"{signed}.{_part(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def for_another_audience(admin: Admin) -> str:
    return _signed(*_ours(admin), aud="elsewhere")


def from_another_issuer(admin: Admin) -> str:
    return _signed(*_ours(admin), iss="elsewhere")


def without_an_end(admin: Admin) -> str:
    return _signed(*_ours(admin), exp=None)


BAD_TOKENS = (
    expired,
    nonsense,
    another_key,
    another_key_under_our_key_id,
    more_permissions_than_were_signed,
    unsigned,
    public_key_as_a_shared_secret,
    for_another_audience,
    from_another_issuer,
    without_an_end,
)


async def test_a_good_token_opens_every_route(admin: Admin) -> None:
    """What is refused below is refused for its credentials and nothing else."""
    answers = [await route.ask(admin, admin.bearer()) for route in ROUTES]
    assert [answer.status_code for answer in answers] == [route.status for route in ROUTES]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 404} == {
        "campaign_not_found",
        "trace_not_found",
        "not_found",
    }


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic YWRhOmFkYQ=="}])
async def test_without_credentials_nobody_gets_in(admin: Admin, headers: dict[str, str]) -> None:
    """401 on every route, with the scheme to use, and nothing is called."""
    await refused(admin, headers, 401, "unauthenticated")
    assert (await ROUTES[0].ask(admin, headers)).headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("bad", BAD_TOKENS, ids=lambda bad: bad.__name__)
async def test_a_bad_token_opens_nothing(admin: Admin, bad: Callable[[Admin], str]) -> None:
    """As a bearer and as a cookie, on every route."""
    token = bad(admin)
    await refused(admin, {"Authorization": f"Bearer {token}"}, 401, "unauthenticated")
    await refused(admin, {"Cookie": f"{ACCESS_COOKIE}={token}"}, 401, "unauthenticated")


async def test_a_bad_bearer_is_not_saved_by_a_good_cookie(admin: Admin) -> None:
    """What was said first is judged."""
    headers = {"Authorization": "Bearer nonsense", "Cookie": f"{ACCESS_COOKIE}={admin.token()}"}
    await refused(admin, headers, 401, "unauthenticated")


@pytest.mark.parametrize("kind", ["customer", "service", "Staff", ""])
async def test_only_staff_get_in(admin: Admin, kind: str) -> None:
    """A customer is known and refused, whatever permissions the token claims."""
    await refused(admin, admin.bearer(replace(STAFF, kind=kind)), 403, "permission_denied")


async def test_a_permission_opens_its_own_routes_only(admin: Admin) -> None:
    """Staff without it are refused on each route that names one; the dashboard is everybody's on the staff."""
    for permission in ("campaigns", "operations"):
        others = replace(STAFF, permissions=STAFF.permissions - {permission} | {"catalog", permission.upper()})
        named = [route for route in ROUTES if route.permission == permission]
        await refused(admin, admin.bearer(others), 403, "permission_denied", named)
    nobody_yet = replace(STAFF, permissions=frozenset())
    await refused(admin, admin.bearer(nobody_yet), 403, "permission_denied", [r for r in ROUTES if r.permission])
    assert (await admin.get(DASHBOARD, who=nobody_yet)).status_code == 200


async def test_a_session_from_the_login_opens_the_dashboard(
    admin: Admin, client_for: Callable[[Any], httpx.AsyncClient]
) -> None:
    """The owner signs in at accounts, and admin takes the cookie: the same person, every permission."""
    accounts = client_for(admin.others["accounts"].application)
    login = await accounts.post("/api/auth/login", json={"email": OWNER, "password": PASSWORD})
    assert login.status_code == 200
    cookie = {"Cookie": f"{ACCESS_COOKIE}={login.cookies[ACCESS_COOKIE]}"}
    assert [(await route.ask(admin, cookie)).status_code for route in ROUTES] == [route.status for route in ROUTES]


async def test_another_site_cannot_use_the_cookie(admin: Admin) -> None:
    """A browser that is made to click from elsewhere is refused; reading and our own site are not."""
    cookie = {"Cookie": f"{ACCESS_COOKIE}={admin.token()}"}
    writes = [route for route in ROUTES if route.method == "POST"]
    await refused(admin, {**cookie, "Origin": "https://evil.example"}, 403, "permission_denied", writes)
    await refused(admin, {**cookie, "Origin": "null"}, 403, "permission_denied", writes)
    await refused(admin, {**cookie, "Sec-Fetch-Site": "cross-site"}, 403, "permission_denied", writes)
    ours = {**cookie, "Origin": admin.runtime.settings.public_url}
    assert (await ROUTES[0].ask(admin, ours)).status_code == 201
    foreign_read = {**cookie, "Origin": "https://evil.example"}
    assert (await admin.http.get(DASHBOARD, headers=foreign_read)).status_code == 200


async def test_while_accounts_is_away_nobody_is_let_in_by_mistake(admin: Admin) -> None:
    """Without its keys nothing can be told of a token: 503 and try again, for a good one and a bad one alike."""
    admin.others["accounts"].proxy.refuse()
    for token in (admin.token(), another_key(admin)):
        answer = await admin.http.get(DASHBOARD, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


async def test_once_the_keys_are_known_accounts_may_go(admin: Admin) -> None:
    """A good token opens, a bad one does not, without a word to accounts."""
    assert (await admin.get(DASHBOARD)).status_code == 200
    admin.others["accounts"].proxy.refuse()
    assert (await admin.get(DASHBOARD)).status_code == 200
    await refused(admin, {"Authorization": f"Bearer {another_key(admin)}"}, 401, "unauthenticated")


async def test_another_method_is_told_which_there_are(admin: Admin) -> None:
    """405 with `Allow`, on every path and before anything else is looked at."""
    allowed: dict[str, set[str]] = {}
    for endpoint in admin.application.endpoints:
        safe = {"HEAD"} if endpoint.method == "GET" else set()
        allowed.setdefault(endpoint.path, set()).update({endpoint.method, *safe})
    for path, methods in allowed.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = await admin.http.request(method, path.replace("{id}", SOME_ID), content=b"{")
            told = (method, path, answer.status_code, answer.headers.get("allow"), answer.json()["code"])
            assert told == (method, path, 405, ", ".join(sorted(methods)), "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/api/admin", "/api/admin/nothing", f"{DASHBOARD}/", f"{TRACES}/a/b", "/v1/metrics"],
)
async def test_a_route_that_is_not_there(admin: Admin, path: str) -> None:
    """404, also for staff; a slash more is another path."""
    answer = await admin.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
async def test_a_body_over_a_mebibyte_is_refused_first(admin: Admin, route: Route) -> None:
    """413 before the credentials are looked at, whether or not the length was declared."""
    path, large = route.path or route.pattern, b'{"name": "' + b"x" * 2**20 + b'"}'

    async def chunks() -> Any:
        yield large

    for content in (large, chunks()):
        answer = await admin.http.request(route.method, path, content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("path", [CAMPAIGNS, SEND])
async def test_the_checks_come_in_the_order_of_the_contract(admin: Admin, path: str) -> None:
    """401, 403, 415, 400, 422: the first that fails is the answer."""
    staff, customer = admin.bearer(), admin.bearer(Principal("c-1", "customer"))
    json_type, text_type = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    asked: list[tuple[dict[str, str], bytes, int, str]] = [
        (text_type, b"{", 401, "unauthenticated"),
        ({**customer, **text_type}, b"{", 403, "permission_denied"),
        ({**staff, **text_type}, b"{", 415, "unsupported_media_type"),
        (staff, json.dumps(DRAFT).encode(), 415, "unsupported_media_type"),
        ({**staff, **json_type, "Idempotency-Key": "a b"}, b"{", 400, "malformed_json"),
        ({**staff, **json_type, "Idempotency-Key": "a b"}, b"{}", 400, "idempotency_key_invalid"),
        ({**staff, **json_type}, b"", 400, "malformed_json"),
        ({**staff, **json_type}, b"[" * 500 + b"]" * 500, 400, "malformed_json"),
        ({**staff, **json_type}, b"{}", 422, "validation_failed"),
        ({**staff, **json_type}, b"[]", 422, "validation_failed"),
        ({**staff, **json_type}, b"null", 422, "validation_failed"),
    ]
    before = await _written(admin)
    for headers, body, status, code in asked:
        answer = await admin.http.post(path, content=body, headers=headers)
        assert (body, answer.status_code, answer.json()["code"]) == (body, status, code)
    assert await _written(admin) == before


async def test_the_receiver_of_spans_needs_no_credentials_and_gives_nothing_away(admin: Admin) -> None:
    """The gateway does not route it; here it only ever takes."""
    answer = await admin.http.get(OTLP, headers=admin.bearer())
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_admin_is_the_name_on_the_certificate(make_admin: MakeAdmin, servers: Any) -> None:
    """With another service's certificate notifications refuses the call, whoever the member of staff is."""
    tls = servers.identity("catalog")
    stranger = await make_admin(tls_cert_file=tls.certificate, tls_key_file=tls.key)
    answer = await stranger.post(CAMPAIGNS, DRAFT)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
