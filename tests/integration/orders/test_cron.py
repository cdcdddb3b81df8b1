"""An outside scheduler's doors: each run is stored and answered, and more of them mail nobody more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import KeySet, OKPKey

from reliability.asgi import Perimeter
from reliability.machine_tokens import MachineVerifier, TrustedIssuer, mint
from tests.integration.orders.support import Orders

KEY = OKPKey.generate_key("Ed25519", {"use": "sig"}, auto_kid=True)


@pytest_asyncio.fixture(loop_scope="session")
async def scheduler(shop_orders: Orders, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client from outside, and a worker that runs what it asks for."""
    keys = tmp_path / "scheduler.jwks"
    keys.write_bytes(orjson.dumps(KeySet([KEY]).as_dict(private=False)))
    verifier = MachineVerifier((TrustedIssuer("scheduler", keys),), shop_orders.runtime.database)
    edge = shop_orders.application.asgi(
        shop_orders.runtime.readiness, request_seconds=20.0, perimeter=Perimeter("http://shop.test", (), verifier)
    )
    stop = asyncio.Event()
    working = asyncio.create_task(shop_orders.runtime.worker.run(stop))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://shop.test") as client:
        yield client
    stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await working


def token(name: str) -> dict[str, str]:
    """A fresh token that is good for one route."""
    return {"Authorization": f"Bearer {mint(KEY, issuer='scheduler', subject='nightly', scopes=(name,))}"}


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("appointment-reminders", "appointment_reminders"),
        ("abandoned-carts", "abandoned_carts"),
        ("release-expired-holds", "expired_holds"),
    ],
)
async def test_the_answer_is_the_stored_run(
    shop_orders: Orders, scheduler: httpx.AsyncClient, name: str, job: str
) -> None:
    """A token is good for its route and once; what is answered is what `job_runs` has."""
    path, good = f"/api/cron/{name}", token(name)
    assert (await scheduler.post(path)).status_code == 401
    assert (await scheduler.post(path, headers=token("another"))).status_code == 403
    answer = await scheduler.post(path, headers=good)
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert (run["job"], run["processed"], run["failed"]) == (job, 0, 0)
    assert run["scheduled_for"] <= run["started_at"] <= run["finished_at"]
    assert await shop_orders.value("SELECT job FROM job_runs WHERE id = $1", run["id"]) == job
    assert (await scheduler.post(path, headers=good)).status_code == 401


async def test_ten_at_once_and_one_late_remind_of_a_cart_once(
    shop_orders: Orders, scheduler: httpx.AsyncClient
) -> None:
    """Eleven runs stored, one cart processed, one mail."""
    cart = await shop_orders.add(shop_orders.customer(), await shop_orders.shop.variant(price=700), 2)
    await shop_orders.execute("UPDATE carts SET updated_at = now() - interval '5 hours'")
    path = "/api/cron/abandoned-carts"
    answers = await asyncio.gather(*(scheduler.post(path, headers=token("abandoned-carts")) for _ in range(10)))
    answers.append(await scheduler.post(path, headers=token("abandoned-carts")))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 11
    unfinished = "SELECT count(*) FROM job_runs WHERE finished_at IS NULL"
    async with asyncio.timeout(20):
        while not (mails := await shop_orders.mails()) or await shop_orders.value(unfinished):
            await asyncio.sleep(0.01)
    # Of all runs: the schedule of the worker itself is due as soon as it has started, and may be the first.
    assert await shop_orders.value("SELECT sum(processed) FROM job_runs WHERE job = 'abandoned_carts'") == 1
    assert list(mails) == [f"abandoned-cart:{cart['id']}"]
