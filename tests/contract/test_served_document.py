"""What the whole system answers is what its document says, whatever it is asked: schemathesis, with every check on.

A system of its own, because it is asked for everything an owner may do. `make fuzz` does the same for minutes.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import OKPKey

from deploy.local.ports import pick_port_base
from deploy.local.system import System
from reliability.ids import new_id
from reliability.tokens import ALGORITHM, AUDIENCE, ISSUER
from services.accounts.identity.domain import Kind, Permission, Role

CONFIG = Path(__file__).with_name("schemathesis.toml")
# Two minutes where a change is let in (`.ci/run`), less at a desk: the same cases in the same order, of one seed.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "40"))
MINUTES_OF_FUZZ = 10 * 60
SEED = os.environ.get("SEED", "")
_REPORT = re.compile(r"(?s)=+ FAILURES =+.*|=+ ERRORS =+.*")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The gateway and everything behind it."""
    system = System(tmp_path_factory.mktemp("fuzzed"), pick_port_base())
    await asyncio.to_thread(system.__enter__)
    try:
        yield system
    finally:
        await asyncio.to_thread(system.__exit__, None, None, None)


async def owner(system: System) -> str:
    """A token of the owner that belongs to no session: what is fuzzed signs out, and ends sessions by their ids."""
    async with httpx.AsyncClient(base_url=system.endpoints.gateway) as http:
        answer = await http.post("/api/auth/login", json=system.endpoints.staff)
    user = answer.raise_for_status().json()["user"]
    key = OKPKey.import_key((system.state.tls / "signing.key").read_bytes())
    key.ensure_kid()
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user["id"],
        "email": user["email"],
        "name": user["name"],
        "iat": now,
        "exp": now + 3600,
        "jti": new_id(),
        "kind": Kind.STAFF.value,
        "role": Role.OWNER.value,
        "permissions": sorted(Permission),
    }
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


async def fuzz(system: System, seconds: int, seed: str) -> tuple[int | None, str]:
    """Runs schemathesis against the gateway; its exit code, and what it found. Without a seed it takes a new one."""
    options = {
        "--header": f"Authorization: Bearer {await owner(system)}",
        "--checks": "all",
        "--phases": "examples,coverage,fuzzing",
        "--max-time": str(seconds),
        "--workers": "1",
        "--suppress-health-check": "all",
        "--generation-database": "none",
        "--warnings": "off",
        **({"--seed": seed} if seed else {}),
    }
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"]
    process = await asyncio.create_subprocess_exec(
        *command,
        f"{system.endpoints.gateway}/api/openapi.json",
        "--no-color",
        "--continue-on-failure",
        *(part for option in options.items() for part in option),
        cwd=system.state.root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")


def told(output: str) -> str:
    """The failures, cut short: what a shrunk case sends may be long."""
    found = _REPORT.search(output)
    return "\n".join(line[:300] for line in (found.group(0) if found else output).splitlines())


async def test_no_answer_is_a_500_or_one_the_document_does_not_know(whole: System) -> None:
    """Every operation, as its schema says and not as it says, signed in and not, with methods it has and has not."""
    code, output = await fuzz(whole, SECONDS, SEED or "1")
    assert code == 0, told(output)
    assert re.search(r"Tested: *\d\d", output), output


@pytest.mark.long
async def test_nor_after_minutes(whole: System) -> None:
    """The same with a new seed and more time; SEED repeats a run."""
    code, output = await fuzz(whole, MINUTES_OF_FUZZ, SEED)
    assert code == 0, told(output)
