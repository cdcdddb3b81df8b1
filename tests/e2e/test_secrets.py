"""After a whole run, nothing that opens anything is in a log, a trace, an error, an audit row or a job."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pyotp
import pytest_asyncio

from deploy.local.credentials import load_secrets
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.ports import SERVICES
from deploy.local.system import System

PASSWORD, NEXT, WRONG = "nine purple otters in a row", "ten purple otters in a row!", "eleven wrong otters in a row"
# Limits count by address: this one is nobody else's.
OWN_ADDRESS = "127.0.0.9"
_TOKEN = re.compile(r"#token=([A-Za-z0-9_-]+)")
_TOLD = ("jobs", "audit_entries", "audit_log", "span_batches")


@dataclass
class Run:
    """What was used in a run, and what was answered in errors."""

    correlation_id: str
    secrets: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def note(self, name: str, secret: str | None) -> str:
        """Remembers a secret; the secret."""
        assert secret, name
        assert len(secret) >= 6, f"{name} would be found by chance"
        self.secrets[name] = secret
        return secret


class Customer:
    """Somebody who does everything that takes a secret."""

    def __init__(self, run: Run, http: httpx.AsyncClient, observer: Observer) -> None:
        self.run = run
        self.http = http
        self.observer = observer
        self.email = f"{run.correlation_id}@example.com"

    async def post(self, path: str, body: Any, *, expect: int, **headers: str) -> httpx.Response:
        answer = await self.http.post(path, json=body, headers=headers)
        assert answer.status_code == expect, (path, answer.status_code, answer.text)
        if expect >= 400:
            self.run.errors.append(f"{answer.text} {answer.headers}")
        return answer

    async def link(self, name: str, subject: str) -> str:
        """The token of a link that was mailed."""

        async def arrived() -> str | None:
            mails = await self.observer.messages(to=self.email)
            found = [_TOKEN.search(mail["text"]) for mail in mails if subject in mail["subject"]]
            return found[0].group(1) if found and found[0] else None

        return self.run.note(name, await eventually(arrived, f"the mail {subject!r}"))

    async def open_account(self) -> None:
        """Signs up, with a body that is refused first, and proves the address."""
        self.run.note("password", PASSWORD)
        await self.post("/api/auth/signup", {"email": "none", "password": PASSWORD, "name": "Ada"}, expect=422)
        broken = f'{{"email": "{self.email}", "password": "{PASSWORD}",'
        answer = await self.http.post("/api/auth/signup", content=broken, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        self.run.errors.append(answer.text)
        body = {"email": self.email, "password": PASSWORD, "name": "Ada Lovelace"}
        await self.post("/api/auth/signup", body, expect=201)
        token = await self.link("verification link", "confirm your mail address")
        await self.post("/api/auth/verify-email", {"token": token}, expect=204)
        await self.post("/api/auth/verify-email", {"token": f"x{token}"}, expect=400)

    async def sign_in(self, name: str, password: str, **factor: str) -> str:
        """Signs in; the access token."""
        answer = await self.post("/api/auth/login", {"email": self.email, "password": password, **factor}, expect=200)
        self.run.note(f"{name}: refresh token", answer.cookies["holdfast_refresh"])
        token = self.run.note(f"{name}: access token", answer.json()["access_token"])
        self.http.cookies.clear()
        return token

    async def misuse(self) -> None:
        """A wrong password, a token that is cut off, a refresh token that was never given."""
        wrong = self.run.note("wrong password", WRONG)
        await self.post("/api/auth/login", {"email": self.email, "password": wrong}, expect=401)
        cut = self.run.note("cut token", self.run.secrets["first: access token"][:-3])
        answer = await self.http.get("/api/me", headers={"Authorization": f"Bearer {cut}"})
        assert answer.status_code == 401
        self.run.errors.append(f"{answer.text} {answer.headers}")
        made_up = self.run.note("made-up refresh token", "Zm9yZ2VkIHJlZnJlc2ggdG9rZW4")
        await self.post("/api/auth/refresh", None, expect=401, Cookie=f"holdfast_refresh={made_up}")

    async def second_factor(self, token: str) -> None:
        """Enrols an authenticator and uses a recovery code."""
        bearer = {"Authorization": f"Bearer {token}"}
        proposal = (await self.post("/api/auth/totp", {"password": PASSWORD}, expect=200, **bearer)).json()
        secret = self.run.note("authenticator's secret", proposal["secret"])
        confirmed = await self.post("/api/auth/totp/confirm", {"totp": pyotp.TOTP(secret).now()}, expect=200, **bearer)
        for number, code in enumerate(confirmed.json()["recovery_codes"]):
            self.run.note(f"recovery code {number}", code)
        await self.sign_in("second", PASSWORD, recovery_code=self.run.secrets["recovery code 0"])

    async def forget(self) -> None:
        """Chooses another password by mail."""
        await self.post("/api/auth/password/forgot", {"email": self.email}, expect=202)
        token = await self.link("reset link", "Choose a new password")
        password = self.run.note("next password", NEXT)
        await self.post("/api/auth/password/reset", {"token": token, "password": password}, expect=204)


@pytest_asyncio.fixture(loop_scope="session")
async def run(system: System, observer: Observer, shopper: Shopper, staff: Staff) -> AsyncIterator[Run]:
    """A customer, a purchase and a member of staff, and every secret that was needed."""
    run = Run(shopper.correlation_id)
    transport = httpx.AsyncHTTPTransport(local_address=OWN_ADDRESS)
    headers = {"X-Correlation-ID": run.correlation_id}
    async with httpx.AsyncClient(
        base_url=system.endpoints.gateway, transport=transport, headers=headers, timeout=15
    ) as http:
        customer = Customer(run, http, observer)
        await customer.open_account()
        first = await customer.sign_in("first", PASSWORD)
        await customer.misuse()
        await customer.second_factor(first)
        await customer.forget()
    chosen = await shopper.choose()
    assert (await shopper.add(chosen["variant"]["id"], 1)).status_code == 201
    order = (await shopper.checkout()).json()
    run.note("card's client secret", order["payment"]["client_secret"])
    run.note("checkout token", order["checkout_token"])
    await shopper.pay(order)
    await shopper.wait_for(order, "paid")
    run.note("staff's access token", staff.http.headers["Authorization"].removeprefix("Bearer "))
    await _invite(run, staff)
    for name, secret in _kept(system):
        run.note(name, secret)
    yield run


async def _invite(run: Run, staff: Staff) -> None:
    body = {"email": f"{run.correlation_id}@staff.example", "name": "Jo", "role": "member", "permissions": ["orders"]}
    headers = {"X-Correlation-ID": run.correlation_id}
    answer = await staff.http.post("/api/admin/staff", json=body, headers=headers)
    assert answer.status_code == 201, answer.text


def _kept(system: System) -> Iterator[tuple[str, str]]:
    """What the system was started with."""
    yield from vars_of(load_secrets(system.state))
    for file in sorted(system.state.tls.glob("*.key")):
        yield file.name, max(file.read_text().splitlines(), key=len)


def vars_of(secrets: object) -> Iterator[tuple[str, str]]:
    """Each secret with its name, those of every service too."""
    for name in getattr(secrets, "__dataclass_fields__", {}):
        value = getattr(secrets, name)
        if isinstance(value, str):
            yield name, value
        else:
            yield from ((f"{name}.{service}", each) for service, each in value.items())


async def _tables(observer: Observer, service: str) -> list[str]:
    statement = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return [row["tablename"] for row in await observer.rows(service, statement)]


async def _found(observer: Observer, service: str, table: str, text: str) -> bool:
    statement = f"SELECT EXISTS (SELECT FROM {table} AS t WHERE strpos(t::text, $1) > 0)"
    return bool(await observer.value(service, statement, text))


async def test_no_secret_of_a_run_is_anywhere_it_can_be_read(system: System, observer: Observer, run: Run) -> None:
    """Every one that was typed, sent, mailed or configured, in every place that tells what happened."""

    async def told() -> bool:
        traced = await observer.value(
            "admin", "SELECT count(*) FROM spans AS t WHERE strpos(t::text, $1) > 0", run.correlation_id
        )
        logged = set(observer.log_lines(run.correlation_id))
        audited = await _found(observer, "admin", "audit_log", run.correlation_id)
        return traced > 50 and audited and {"gateway", "accounts", "orders", "admin"} <= logged

    await eventually(told, "logs, traces and audit rows of the run: the search would find nothing in empty places")
    leaks = [
        f"{name} in {file.name}"
        for file in sorted(system.state.logs.glob("*.log"))
        for name, secret in run.secrets.items()
        if secret in file.read_text(errors="replace")
    ]
    leaks += [f"{name} in an error" for name, secret in run.secrets.items() if any(secret in e for e in run.errors)]
    for service in SERVICES:
        tables = await _tables(observer, service)
        # What accounts stores opens nothing at all; of the others, what tells what happened.
        for table in tables if service == "accounts" else sorted(set(tables) & set(_TOLD)):
            for name, secret in run.secrets.items():
                if await _found(observer, service, table, secret):
                    leaks.append(f"{name} in {service}.{table}")
    assert leaks == []
    assert len(run.errors) >= 6
