"""What if accounts dies here? Every named point between a customer's click and its answer."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import oidc_provider_mock
import pytest
import pytest_asyncio
import redis.asyncio

from deploy.local.demo.shopper import eventually
from deploy.local.ports import Ports, pick_port_base
from deploy.local.system import System
from reliability.testing.crash import CrashPoints
from tests.chaos.mortal import Mortal, mortal, points
from tests.chaos.points import ACCOUNT

__all__ = ["mortal", "points"]

pytestmark = pytest.mark.long

AUTH = "/api/auth"
FIRST, SECOND = "kibble and bits for forty-two", "a leash that nobody ever chewed"
_LINK = re.compile(r"#token=([\w.~-]+)")


@dataclass
class Visitor:
    """Somebody with an address, a browser, and patience: a request without an answer is made again."""

    mortal: Mortal
    http: httpx.AsyncClient
    email: str = field(default_factory=lambda: f"{uuid.uuid4().hex[:12]}@example.com")

    async def asks(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The first answer of a living process."""

        async def answered() -> httpx.Response | None:
            with suppress(httpx.TransportError):
                answer = await self.http.request(method, path, json=body)
                return answer if answer.status_code not in {502, 503, 504} else None
            return None

        answer: httpx.Response = await eventually(answered, path, seconds=60)
        return answer

    async def dies_at(self, point: str, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Asks while accounts dies there; the answer of its successor."""
        async with self.mortal.dying("accounts", point):
            return await self.asks(method, path, body)

    async def sign_up(self, point: str | None = None) -> httpx.Response:
        """Asks for an account."""
        body = {"email": self.email, "password": FIRST, "name": "Ada"}
        if point is None:
            return await self.asks("POST", f"{AUTH}/signup", body)
        return await self.dies_at(point, "POST", f"{AUTH}/signup", body)

    async def link(self, subject: str) -> str:
        """The token of the link in the mail with this in its subject."""

        async def arrived() -> str | None:
            for mail in await self.mails():
                if subject.lower() in mail["subject"].lower() and (found := _LINK.search(mail["text"])):
                    return found[1]
            return None

        token: str = await eventually(arrived, f"a mail about {subject}", seconds=60)
        return token

    async def mails(self) -> list[dict[str, Any]]:
        """All that came, whole."""
        listed = await self.mortal.observer.messages(to=self.email)
        async with httpx.AsyncClient(base_url=self.mortal.system.endpoints.mailbox or "") as http:
            return [(await http.get(f"/messages/{mail['id']}")).json() for mail in listed]

    async def member(self) -> None:
        """Signs up, proves the address and signs in."""
        assert (await self.sign_up()).status_code == 201
        token = await self.link("confirm")
        assert (await self.asks("POST", f"{AUTH}/verify-email", {"token": token})).status_code == 204
        assert (await self.log_in()).status_code == 200

    async def log_in(self, password: str = FIRST) -> httpx.Response:
        """Signs in."""
        return await self.asks("POST", f"{AUTH}/login", {"email": self.email, "password": password})

    async def to_provider(self) -> str:
        """Signs in over there; the path that the browser is sent back to."""
        begun = await self.asks("GET", f"{AUTH}/oauth/mock/start")
        async with httpx.AsyncClient() as browser:
            there = await browser.post(begun.headers["location"], data={"sub": self.email})
        return there.headers["location"]

    async def count(self, sql: str) -> int:
        """What accounts has of this address."""
        return int(await self.mortal.observer.value("accounts", sql, self.email))


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """An OpenID provider that lets everybody in."""
    with oidc_provider_mock.run_server_in_thread(require_client_registration=True, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, points: CrashPoints, issuer: str) -> Iterator[System]:
    """A system that trusts the provider."""
    base = pick_port_base()
    back = f"http://127.0.0.1:{Ports(base).of('gateway')}{AUTH}/oauth/mock/callback"
    client = httpx.post(f"{issuer}/oauth2/clients", json={"redirect_uris": [back]}).raise_for_status().json()
    provider = {"issuer": issuer, "client_id": client["client_id"], "client_secret": client["client_secret"]}
    environment = points.environment | {"OAUTH_PROVIDERS": json.dumps({"mock": provider})}
    with System(tmp_path_factory.mktemp("accounts"), base, environment=environment) as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(mortal: Mortal) -> AsyncIterator[Visitor]:
    """A new visitor. The limits are forgotten: everybody here comes from one address."""
    async with redis.asyncio.from_url(mortal.system.endpoints.redis) as cache:
        await cache.flushdb()
    async with httpx.AsyncClient(base_url=mortal.system.endpoints.gateway, timeout=15) as http:
        yield Visitor(mortal, http)
        await mortal.rest()


def those(operation: str) -> list[str]:
    """The points of an operation."""
    return sorted(point for point in ACCOUNT if point.startswith(f"{operation}."))


@pytest.mark.parametrize("point", those("signup"))
async def test_a_sign_up_survives_death_at(visitor: Visitor, point: str) -> None:
    """One account and one way in, whether the first try was kept or not."""
    assert (await visitor.sign_up(point)).status_code == 201
    token = await visitor.link("confirm")
    assert (await visitor.asks("POST", f"{AUTH}/verify-email", {"token": token})).status_code == 204
    assert (await visitor.log_in()).status_code == 200
    assert await visitor.count("SELECT count(*) FROM accounts WHERE email = $1") == 1


@pytest.mark.parametrize("point", those("login"))
async def test_a_login_survives_death_at(visitor: Visitor, point: str) -> None:
    """The session nobody heard of stands beside the one that was answered; both are in the list."""
    await visitor.member()
    body = {"email": visitor.email, "password": FIRST}
    assert (await visitor.dies_at(point, "POST", f"{AUTH}/login", body)).status_code == 200
    assert (await visitor.asks("GET", f"{AUTH}/session")).json()["user"]["email"] == visitor.email


@pytest.mark.parametrize("point", those("refresh"))
async def test_a_refresh_survives_death_at(visitor: Visitor, point: str) -> None:
    """The same token again is the same exchange, not a thief: the session goes on and nobody is alarmed."""
    await visitor.member()
    assert (await visitor.dies_at(point, "POST", f"{AUTH}/refresh")).status_code == 200
    assert (await visitor.asks("POST", f"{AUTH}/refresh")).status_code == 200
    assert not [mail for mail in await visitor.mails() if "session" in mail["subject"].lower()]


@pytest.mark.parametrize("point", those("reset"))
async def test_a_new_password_survives_death_at(visitor: Visitor, point: str) -> None:
    """The link again with the same password is done; the old one is over."""
    await visitor.member()
    assert (await visitor.asks("POST", f"{AUTH}/password/forgot", {"email": visitor.email})).status_code == 202
    body = {"token": await visitor.link("password"), "password": SECOND}
    assert (await visitor.dies_at(point, "POST", f"{AUTH}/password/reset", body)).status_code == 204
    assert (await visitor.log_in()).status_code == 401
    assert (await visitor.log_in(SECOND)).status_code == 200


@pytest.mark.parametrize("point", those("erase"))
async def test_an_erasure_survives_death_at(visitor: Visitor, point: str) -> None:
    """Whether it was heard of or not, the account is gone in the end, and asking again does no harm."""
    await visitor.member()
    answer = await visitor.dies_at(point, "DELETE", "/api/me")
    assert answer.status_code in {204, 401}  # 401: erased before, and its session with it
    assert (await visitor.log_in()).status_code == 401
    assert await visitor.count("SELECT count(*) FROM accounts WHERE email = $1") == 0


async def test_a_sign_in_by_a_provider_survives_death(visitor: Visitor, issuer: str) -> None:
    """The provider's code was spent and nothing was kept: whoever starts again is in, with one account."""
    claims = {"email": visitor.email, "email_verified": True, "name": "Ada"}
    httpx.put(f"{issuer}/users/{visitor.email}", json=claims).raise_for_status()
    back = await visitor.to_provider()
    refused = await visitor.dies_at("oauth.not_committed", "GET", back)
    assert refused.status_code in {400, 401, 403, 409}, refused.text
    assert await visitor.count("SELECT count(*) FROM accounts WHERE email = $1") == 0
    assert (await visitor.asks("GET", await visitor.to_provider())).status_code == 302
    assert await visitor.count("SELECT count(*) FROM accounts WHERE email = $1") == 1


async def test_an_invitation_and_a_removal_survive_death(visitor: Visitor) -> None:
    """One member and one mail; removed once, and both are in the audit log once."""
    mortal = visitor.mortal
    async with mortal.staff() as staff:
        owner = Visitor(mortal, staff.http)
        body = {"email": visitor.email, "name": "Ada", "role": "member", "permissions": ["orders"]}
        invited = await owner.dies_at("invitation.not_committed", "POST", "/api/admin/staff", body)
        assert invited.status_code == 201, invited.text
        await mortal.rest()
        assert len(await visitor.mails()) == 1
        assert await visitor.count("SELECT count(*) FROM accounts WHERE email = $1") == 1
        member = invited.json()["id"]
        removed = await owner.dies_at("removal.not_committed", "DELETE", f"/api/admin/staff/{member}")
        assert removed.status_code == 200, removed.text
        await mortal.rest()
    done = "SELECT action FROM audit_log WHERE subject = $1 ORDER BY action"
    log = await mortal.observer.rows("admin", done, member)
    assert [row["action"] for row in log] == ["staff.invited", "staff.removed"]
