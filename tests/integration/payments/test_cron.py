"""The outside scheduler's door to the reconciler: each run is stored and answered, and two at once do it once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest_asyncio
from joserfc.jwk import KeySet, OKPKey

from reliability.asgi import Perimeter
from reliability.machine_tokens import MachineVerifier, TrustedIssuer, mint
from tests.integration.payments.conftest import TOTAL, Shop

KEY = OKPKey.generate_key("Ed25519", {"use": "sig"}, auto_kid=True)
PATH, SCOPE = "/api/cron/reconcile-payments", "reconcile-payments"


@pytest_asyncio.fixture
async def scheduler(shop: Shop, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client from outside, and two workers that run what it asks for."""
    keys = tmp_path / "scheduler.jwks"
    keys.write_bytes(orjson.dumps(KeySet([KEY]).as_dict(private=False)))
    verifier = MachineVerifier((TrustedIssuer("scheduler", keys),), shop.payments.database)
    edge = shop.application.asgi(
        shop.payments.readiness, request_seconds=20.0, perimeter=Perimeter("http://shop.test", (), verifier)
    )
    stop = asyncio.Event()
    working = asyncio.create_task(shop.payments.worker.run(stop))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://shop.test") as client:
        yield client
    stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await working


def token(scope: str = SCOPE) -> dict[str, str]:
    """A fresh token that is good for one route."""
    return {"Authorization": f"Bearer {mint(KEY, issuer='scheduler', subject='nightly', scopes=(scope,))}"}


async def test_the_answer_is_the_stored_run(shop: Shop, scheduler: httpx.AsyncClient) -> None:
    """A token is good for its route and once; what is answered is what `job_runs` has."""
    good = token()
    assert (await scheduler.post(PATH)).status_code == 401
    assert (await scheduler.post(PATH, headers=token("purge-expired"))).status_code == 403
    answer = await scheduler.post(PATH, headers=good)
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert (run["job"], run["processed"], run["failed"]) == ("reconcile_payments", 0, 0)
    assert await shop.value("SELECT job FROM job_runs WHERE id = $1", run["id"]) == "reconcile_payments"
    assert (await scheduler.post(PATH, headers=good)).status_code == 401
    assert await shop.value("SELECT count(*) FROM reconciliation") == 1


async def test_ten_at_once_mend_a_lost_payment_once(shop: Shop, scheduler: httpx.AsyncClient) -> None:
    """Ten runs are stored; they find three events between them, and the order is paid once."""
    order = await shop.order()
    # A webhook may take a minute before it counts as lost.
    shop.sandbox.clock.ahead = -120.0
    await shop.sandbox.pay((await shop.create_intent(order)).payment_intent_id)
    shop.sandbox.clock.ahead = 0.0
    answers = await asyncio.gather(*(scheduler.post(PATH, headers=token()) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 10
    async with asyncio.timeout(20):
        while await shop.of_orders("SELECT status FROM orders") != "paid":
            await asyncio.sleep(0.01)
    assert await shop.value("SELECT count(*) FROM drift WHERE kind = 'missing_event'") == 2
    assert await shop.of_orders("SELECT sum(amount)::int FROM order_payments") == TOTAL
