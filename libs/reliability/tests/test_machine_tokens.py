"""Machines get in with a token that is short, theirs, meant for us, and new."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey

from deploy.local.certificates import SCHEDULER, SCHEDULER_KEYS, ensure_scheduler_key
from reliability.asgi import Access, Answer, Call, Endpoint, Perimeter
from reliability.context import principal
from reliability.errors import PermissionDenied, Unauthenticated
from reliability.health import Readiness
from reliability.machine_tokens import MACHINE_AUDIENCE, MachineVerifier, TokenUsed, TrustedIssuer, mint
from reliability.postgres import Database
from reliability.runtime import Application

TOOL = Path(__file__).parents[3] / "tools" / "machine_token.py"
SCOPE = "purge-expired"
ISSUER = "holdfast-scheduler"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
ACCOUNT = "system:serviceaccount:holdfast:scheduler"


def new_key() -> OKPKey:
    """A key pair of a scheduler."""
    key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "Ed25519"})
    key.ensure_kid()
    return key


def publish(path: Path, *keys: Any) -> None:
    """Writes the public halves, as a rotation does: a new file in place of the old."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))
    fresh.replace(path)


class Gate:
    """A verifier that trusts one scheduler and one cluster."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.key, self.cluster = new_key(), ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
        self.cluster.ensure_kid()
        self.jwks = folder / "scheduler.jwks"
        publish(self.jwks, self.key)
        publish(folder / "cluster.jwks", self.cluster)
        self.issuers = (
            TrustedIssuer(ISSUER, self.jwks),
            TrustedIssuer(CLUSTER, folder / "cluster.jwks", {ACCOUNT: (SCOPE,)}, max_seconds=3600),
        )
        self.verifier = MachineVerifier(self.issuers, database)

    def token(self, *scopes: str, key: OKPKey | None = None, issuer: str = ISSUER, **options: Any) -> str:
        """As the scheduler makes it."""
        return mint(key or self.key, issuer=issuer, subject="nightly", scopes=scopes or (SCOPE,), **options)

    def signed(self, key: Any, algorithm: str, kid: str | None = None, **changes: Any) -> str:
        """Any claims at all; None leaves one out."""
        now = int(time.time())
        good = {"iss": ISSUER, "aud": MACHINE_AUDIENCE, "sub": "x", "iat": now, "exp": now + 60, "jti": "1"}
        claims = {name: value for name, value in (good | {"scope": SCOPE} | changes).items() if value is not None}
        return jwt.encode({"alg": algorithm, "kid": kid or key.kid}, claims, key, algorithms=[algorithm])


@pytest.fixture
def gate(tmp_path: Path, database: Database) -> Gate:
    return Gate(tmp_path, database)


async def test_a_scheduler_gets_in_once_for_each_scope(gate: Gate) -> None:
    """The second use of a token for the same scope is refused; for another scope of its own it is the first."""
    token = gate.token(SCOPE, "abandoned-carts")
    who = await gate.verifier.admit(token, SCOPE)
    assert (who.id, who.kind, who.permissions) == ("nightly", "machine", frozenset({SCOPE, "abandoned-carts"}))
    with pytest.raises(TokenUsed):
        await gate.verifier.admit(token, SCOPE)
    await gate.verifier.admit(token, "abandoned-carts")


async def test_of_many_at_once_one_gets_in(gate: Gate) -> None:
    """Twenty copies of one token race: one wins, whichever process it asked."""
    token = gate.token()
    answers = await asyncio.gather(*(gate.verifier.admit(token, SCOPE) for _ in range(20)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Principal"] + ["TokenUsed"] * 19


async def test_a_token_without_the_scope_is_not_used_up(gate: Gate) -> None:
    """403 says what is missing and leaves the token good for what it names."""
    token = gate.token("abandoned-carts")
    with pytest.raises(PermissionDenied, match=SCOPE):
        await gate.verifier.admit(token, SCOPE)
    await gate.verifier.admit(token, "abandoned-carts")


BAD: dict[str, Callable[[Gate], str]] = {
    "nonsense": lambda _gate: "not.a.token",
    "empty": lambda _gate: "",
    "a header the library does not foresee": lambda _gate: "eyJhbGciOiJFZDI1NTE5IiwiY3JpdCI6MX0.e30.AA",
    "an id that is no text": lambda gate: gate.signed(gate.key, "Ed25519", jti=7),
    "expired": lambda gate: gate.token(now=time.time() - 400),
    "from the future": lambda gate: gate.token(now=time.time() + 400),
    "lives too long": lambda gate: gate.token(lifetime=301),
    "another key": lambda gate: gate.token(key=new_key()),
    "nobody we know": lambda gate: gate.token(issuer="elsewhere"),
    "a customer's audience": lambda gate: gate.signed(gate.key, "Ed25519", aud="holdfast"),
    "no audience": lambda gate: gate.signed(gate.key, "Ed25519", aud=None),
    "no end": lambda gate: gate.signed(gate.key, "Ed25519", exp=None),
    "no beginning": lambda gate: gate.signed(gate.key, "Ed25519", iat=None),
    "no id": lambda gate: gate.signed(gate.key, "Ed25519", jti=None),
    "an id too long to keep": lambda gate: gate.signed(gate.key, "Ed25519", jti="x" * 201),
    "an id PostgreSQL cannot hold": lambda gate: gate.signed(gate.key, "Ed25519", jti="a\0b"),
    "the cluster's name under the scheduler's key": lambda gate: gate.token(issuer=CLUSTER),
    "a shared secret": lambda gate: gate.signed(OctKey.import_key(gate.jwks.read_bytes()), "HS256", gate.key.kid),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_any_other_token_is_refused(gate: Gate, database: Database, bad: Callable[[Gate], str]) -> None:
    """401, and nothing is written down."""
    with pytest.raises(Unauthenticated):
        await gate.verifier.admit(bad(gate), SCOPE)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM machine_tokens") == 0


async def test_a_service_account_of_the_cluster_may_do_what_the_settings_say(gate: Gate) -> None:
    """Kubernetes says who it is, we say what that one may do; a scope it writes into its token counts for nothing."""
    token = gate.signed(gate.cluster, "ES256", iss=CLUSTER, sub=ACCOUNT, aud=[MACHINE_AUDIENCE], scope=None)
    assert (await gate.verifier.admit(token, SCOPE)).id == ACCOUNT
    for subject, jti in (("system:serviceaccount:default:somebody", "2"), (ACCOUNT, "3")):
        other = gate.signed(gate.cluster, "ES256", iss=CLUSTER, sub=subject, jti=jti, scope="abandoned-carts")
        with pytest.raises(PermissionDenied):
            await gate.verifier.admit(other, "abandoned-carts")


async def test_keys_rotate_while_running(gate: Gate) -> None:
    """The file is read again when it changes: the new key is in, the old one out."""
    old, new = gate.token(), new_key()
    publish(gate.jwks, new)
    await gate.verifier.admit(gate.token(key=new), SCOPE)
    with pytest.raises(Unauthenticated):
        await gate.verifier.admit(old, SCOPE)


async def test_without_its_keys_an_issuer_is_a_stranger(gate: Gate) -> None:
    """A file that is not there refuses; it does not fail."""
    gate.jwks.unlink()
    with pytest.raises(Unauthenticated):
        await gate.verifier.admit(gate.token(), SCOPE)


async def test_what_has_expired_is_forgotten(gate: Gate, database: Database) -> None:
    """The table holds a few minutes, not a history."""
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO machine_tokens VALUES ('old', 'old', 'old', now() - interval '2 minutes'), "
            "('recent', 'recent', 'recent', now() - interval '30 seconds')"
        )
    await gate.verifier.admit(gate.token(), SCOPE)
    async with database.connection() as connection:
        kept = {row["issuer"] for row in await connection.fetch("SELECT issuer FROM machine_tokens")}
    assert kept == {"recent", ISSUER}


async def test_a_route_for_schedulers(gate: Gate) -> None:
    """401 without a token, with a used one or on a service that trusts nobody; 403 with another's; else the handler."""
    seen: list[str] = []

    async def run(_call: Call) -> Answer:
        who = principal.get()
        seen.append(who.id if who else "")
        return Answer({"started": True}, status=202)

    route = Endpoint("POST", "/api/cron/purge-expired", run, access=Access.SCHEDULER, permission=SCOPE, status=202)

    async def ask(perimeter: Perimeter | None, **headers: str) -> tuple[int, str]:
        edge = Application(endpoints=[route]).asgi(Readiness({}), request_seconds=8.0, perimeter=perimeter)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://test") as client:
            answer = await client.post(route.path, headers=headers)
        return answer.status_code, answer.json().get("code", "")

    trusting, token = Perimeter(machines=gate.verifier), gate.token()
    assert await ask(trusting) == (401, "unauthenticated")
    assert await ask(None, Authorization=f"Bearer {token}") == (401, "unauthenticated")
    assert await ask(trusting, Authorization=f"Bearer {gate.token('other')}") == (403, "permission_denied")
    assert await ask(trusting, Authorization=f"Bearer {token}") == (202, "")
    assert await ask(trusting, Authorization=f"Bearer {token}") == (401, "token_used")
    assert seen == ["nightly"]


def test_the_tool_makes_what_the_services_take(tmp_path: Path) -> None:
    """A key made for `make up`, the tool, and the public half that services are told of belong together."""
    ensure_scheduler_key(tmp_path)
    command = [
        sys.executable,
        str(TOOL),
        "--key",
        str(tmp_path / "scheduler.key"),
        "--scope",
        SCOPE,
        "--scope",
        "other",
    ]
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    keys = KeySet.import_key_set(json.loads((tmp_path / SCHEDULER_KEYS).read_text()))
    claims = jwt.decode(token, keys, algorithms=["Ed25519"]).claims
    assert (claims["iss"], claims["scope"], claims["exp"] - claims["iat"]) == (SCHEDULER, f"{SCOPE} other", 300)
    assert "d" not in json.loads((tmp_path / SCHEDULER_KEYS).read_text())["keys"][0]
