"""Webhooks of the sandbox: signed, prompt, repeated until taken, and as unruly as ordered."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import stripe

from sandbox.stripe import outbox
from sandbox.stripe.settings import Settings, SettingsError
from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    API_KEY,
    BOUND_SECONDS,
    WEBHOOK_SECRET,
    Receiver,
    Sandbox,
    Servers,
    receiver_fixture,
    receiver_url_fixture,
    running,
    sandbox_fixture,
    sdk,
    servers_fixture,
    until,
)


async def settled(sandbox: Sandbox, event_type: str) -> stripe.Event:
    """The newest event of a type, once no webhook of it is pending."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            listed = await sandbox.api.v1.events.list_async({"type": event_type, "delivery_success": True})
            if listed.data:
                return listed.data[0]
            await asyncio.sleep(0.01)


async def test_events_arrive_signed(sandbox: Sandbox) -> None:
    """stripe.Webhook verifies them; a changed body or another secret does not pass; pending_webhooks ends at 0."""
    intent = await sandbox.intent()
    await sandbox.pay(intent.id)
    (received,) = await sandbox.receiver.wait_for("payment_intent.succeeded")
    event = received.event
    assert (event.type, event.data.object["id"], event.pending_webhooks) == ("payment_intent.succeeded", intent.id, 1)
    assert event.data.object["metadata"]["order_id"] == "o-1"
    for body, secret in ((received.body + b" ", WEBHOOK_SECRET), (received.body, "whsec_other")):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, received.signature, secret)
    assert (await settled(sandbox, "payment_intent.succeeded")).pending_webhooks == 0
    logged = (await sandbox.get(f"/_sandbox/deliveries?event_id={event.id}"))[0]
    assert (logged["status"], logged["attempt"], logged["error"], logged["fault"]) == (200, 1, None, None)


async def test_what_nobody_wants_is_listed_and_not_sent(
    tmp_path: Path, receiver: Receiver, receiver_url: str, servers: Servers
) -> None:
    """As with an endpoint that is registered for some events: no webhook of the others is ever pending."""
    settings = Settings("127.0.0.1", 0, API_KEY, receiver_url, (WEBHOOK_SECRET,), tmp_path / "stripe.db")
    some = replace(settings, webhook_events=("payment_intent.succeeded", "refund.*"))
    async with running(some, receiver, servers) as sandbox:
        await sandbox.pay((await sandbox.intent()).id)
        await receiver.wait_for("payment_intent.succeeded")
        unwanted = await settled(sandbox, "charge.succeeded")
        assert unwanted.pending_webhooks == 0
        assert receiver.of("charge.succeeded") == receiver.of("payment_intent.created") == []


async def test_refusals_are_repeated_with_a_fresh_signature(sandbox: Sandbox) -> None:
    """A 503 and a 302 are not taken: the event comes again, later and newly signed, until a 200."""
    sandbox.receiver.answers.extend([503, 302])
    await sandbox.intent()
    received = await sandbox.receiver.wait_for("payment_intent.created", 3)
    gaps = [later.at - earlier.at for earlier, later in pairwise(received)]
    assert gaps[0] > 0.4
    assert gaps[1] > 0.9
    assert len({each.body for each in received}) == 1
    assert len({each.signature for each in received}) > 1
    event = await settled(sandbox, "payment_intent.created")
    logged = await sandbox.get(f"/_sandbox/deliveries?event_id={event.id}")
    assert [(each["attempt"], each["status"]) for each in logged] == [(3, 200), (2, 302), (1, 503)]


def test_the_schedule_lasts_twenty_minutes_and_more() -> None:
    """0.5 s, doubled up to 10 s, and not given up before twenty minutes."""
    delays = [outbox.retry_delay(attempt) for attempt in range(1, outbox.MAX_ATTEMPTS)]
    assert delays[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert sum(delays) > 20 * 60


async def test_a_slow_receiver_holds_up_nobody(sandbox: Sandbox) -> None:
    """API calls return and other events go out while a delivery hangs."""
    sandbox.receiver.gate = asyncio.Event()
    intent = await sandbox.intent()
    await sandbox.receiver.wait_for("payment_intent.created")
    await sandbox.pay(intent.id)
    await sandbox.receiver.wait_for("payment_intent.succeeded")
    assert sandbox.receiver.most_busy >= 2
    pending = await sandbox.api.v1.events.list_async({"delivery_success": False})
    assert len(pending.data) == 3
    sandbox.receiver.gate.set()
    await settled(sandbox, "payment_intent.created")


async def test_duplicates_on_order(sandbox: Sandbox) -> None:
    """Five copies of one event arrive at once, each signed; others come once."""
    sandbox.receiver.gate = asyncio.Event()
    await sandbox.fault(on="webhook", type="payment_intent.succeeded", fault="duplicate", copies=5, times=1)
    intent = await sandbox.intent()
    await sandbox.pay(intent.id)
    received = await sandbox.receiver.wait_for("payment_intent.succeeded", 5)
    await sandbox.receiver.wait_for("charge.succeeded")
    assert sandbox.receiver.most_busy >= 5
    sandbox.receiver.gate.set()
    assert len({each.event.id for each in received}) == 1
    await until(lambda: sandbox.receiver.busy == 0)
    assert len(sandbox.receiver.of("charge.succeeded")) == 1
    logged = await sandbox.get(f"/_sandbox/deliveries?payment_intent={intent.id}")
    assert [each["fault"] for each in logged].count("duplicate") == 5


async def test_reordering_on_order(sandbox: Sandbox) -> None:
    """The created event is held until the succeeded one has been taken."""
    await sandbox.fault(
        on="webhook", type="payment_intent.created", fault="reorder", after="payment_intent.succeeded", times=1
    )
    intent = await sandbox.intent()
    await sandbox.pay(intent.id)
    await sandbox.receiver.wait_for("payment_intent.created")
    types = [each.type for each in sandbox.receiver.received]
    assert types.index("payment_intent.created") > types.index("payment_intent.succeeded")


async def test_reordering_after_whatever_comes_next(sandbox: Sandbox) -> None:
    """Without `after`, any other event of the same intent lets it go; those of other intents do not."""
    await sandbox.fault(on="webhook", type="payment_intent.created", fault="reorder", times=1)
    held = await sandbox.intent()
    await sandbox.intent()
    await sandbox.receiver.wait_for("payment_intent.created")
    assert [each.event.data.object["id"] for each in sandbox.receiver.received] != [held.id]
    await sandbox.pay(held.id)
    both = await sandbox.receiver.wait_for("payment_intent.created", 2)
    assert both[1].event.data.object["id"] == held.id


async def test_delay_and_drop_on_order(sandbox: Sandbox) -> None:
    """A delayed event is late by so much; a dropped one is listed, stays pending and is only sent when asked for."""
    await sandbox.fault(on="webhook", type="payment_intent.created", fault="delay", seconds=0.4)
    await sandbox.fault(on="webhook", type="payment_intent.succeeded", fault="drop")
    begun = time.monotonic()
    intent = await sandbox.intent()
    (late,) = await sandbox.receiver.wait_for("payment_intent.created")
    assert late.at - begun >= 0.4
    await sandbox.pay(intent.id)
    await settled(sandbox, "charge.succeeded")
    dropped = (await sandbox.api.v1.events.list_async({"type": "payment_intent.succeeded"})).data[0]
    assert dropped.pending_webhooks == 1
    assert sandbox.receiver.of("payment_intent.succeeded") == []
    logged = await sandbox.get(f"/_sandbox/deliveries?event_id={dropped.id}")
    assert [(each["fault"], each["status"]) for each in logged] == [("drop", None)]
    await sandbox.act(f"events/{dropped.id}/redeliver")
    assert (await settled(sandbox, "payment_intent.succeeded")).id == dropped.id


async def test_redelivery_one_after_another(sandbox: Sandbox) -> None:
    """As often as asked; the answer says what came of each, and a refusal is not repeated."""
    await sandbox.intent()
    event = await settled(sandbox, "payment_intent.created")
    sandbox.receiver.most_busy = 0
    sandbox.receiver.answers.append(503)
    answer = await sandbox.act(f"events/{event.id}/redeliver", {"count": 5})
    assert [each["status"] for each in answer["deliveries"]] == [503, 200, 200, 200, 200]
    assert [each["number"] for each in answer["deliveries"]] == [2, 3, 4, 5, 6]
    assert sandbox.receiver.most_busy == 1
    await sandbox.act("events/evt_none/redeliver", {}, 404)
    await sandbox.act(f"events/{event.id}/redeliver", {"count": 0}, 400)


async def test_redelivery_all_at_once(sandbox: Sandbox) -> None:
    """Five deliveries of one event are under way at the same moment."""
    await sandbox.intent()
    event = await settled(sandbox, "payment_intent.created")
    sandbox.receiver.gate = asyncio.Event()
    asked = asyncio.create_task(sandbox.act(f"events/{event.id}/redeliver", {"count": 5, "concurrent": True}))
    await until(lambda: sandbox.receiver.busy == 5)
    sandbox.receiver.gate.set()
    assert [each["status"] for each in (await asked)["deliveries"]] == [200] * 5


def test_bad_settings_are_named_all_at_once() -> None:
    """Start-up fails with every bad variable in one message, and never stands in for production."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"HTTP_PORT": "x", "STRIPE_WEBHOOK_URL": "ftp://x", "ENVIRONMENT": "production"})
    for name in ("STRIPE_API_KEY", "STATE_FILE", "HTTP_PORT", "STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_URL", "ENVIRON"):
        assert name in str(caught.value)


@contextmanager
def process(state: Path, port: int, webhook_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The sandbox as it is really started."""
    environment = {
        **os.environ,
        "HTTP_PORT": str(port),
        "STATE_FILE": str(state),
        "STRIPE_API_KEY": API_KEY,
        "STRIPE_WEBHOOK_URL": webhook_url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "LOG_LEVEL": "warning",
    }
    root = Path(__file__).parents[2]
    started = subprocess.Popen([sys.executable, "-m", "sandbox.stripe"], cwd=root, env=environment)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


async def alive(url: str, running: subprocess.Popen[bytes]) -> None:
    """Wait for /livez."""
    async with asyncio.timeout(BOUND_SECONDS), httpx.AsyncClient(verify=False) as http:
        while running.poll() is None:
            try:
                if (await http.get(f"{url}/livez")).status_code == 200:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.02)
    pytest.fail(f"the sandbox ended with {running.returncode}")


async def test_a_kill_loses_nothing(tmp_path: Path, receiver: Receiver, receiver_url: str) -> None:
    """Killed in a burst and started again: effect, event and idempotency record agree, webhooks still arrive."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, state = f"http://127.0.0.1:{port}", tmp_path / "state" / "stripe.db"
    receiver.answers.extend([503] * 200)
    keys = [f"key-{number}" for number in range(40)]
    with process(state, port, receiver_url) as first:
        await alive(url, first)
        burst = asyncio.gather(*(_buy(url, key) for key in keys), return_exceptions=True)
        await receiver.wait_for("payment_intent.succeeded", 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        seen = {each for each in await burst if isinstance(each, str)}
    receiver.answers.clear()
    receiver.received.clear()
    with process(state, port, receiver_url) as second:
        await alive(url, second)
        retried = await asyncio.gather(*(_buy(url, key) for key in keys))
        assert seen <= set(retried)
        assert len(set(retried)) == len(keys)
        await until(lambda: _paid(receiver) == set(retried))
        async with httpx.AsyncClient(base_url=url, verify=False) as http:
            ledger = (await http.get("/_sandbox/ledger")).json()
        assert ledger["charges"]["count"] == len(keys)
        events = sdk(url).v1.events
        listed = await events.list_async({"type": "payment_intent.succeeded", "limit": 100})
        assert sorted(event.data.object["id"] for event in listed.data) == sorted(retried)


def _paid(receiver: Receiver) -> set[str]:
    """Intents the receiver was told about."""
    return {json.loads(each.body)["data"]["object"]["id"] for each in receiver.of("payment_intent.succeeded")}


async def _buy(url: str, key: str) -> str:
    """One paid intent under a key."""
    api = sdk(url).v1.payment_intents
    made = await api.create_async(
        {"amount": 500, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}, {"idempotency_key": key}
    )
    return made.id


async def test_a_stop_signal_is_obeyed_while_a_call_hangs(tmp_path: Path, receiver_url: str) -> None:
    """SIGTERM ends the process within seconds, even with a connection that is never answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with process(tmp_path / "stripe.db", port, receiver_url) as running:
        await alive(url, running)
        async with httpx.AsyncClient(base_url=url, verify=False) as http:
            order = {"on": "api", "fault": "timeout_before_effect"}
            assert (await http.post("/_sandbox/faults", json=order)).status_code == 201
            hanging = asyncio.create_task(_buy(url, "key"))
            async with asyncio.timeout(BOUND_SECONDS):
                while (await http.get("/_sandbox/faults")).json()[0]["remaining"]:
                    await asyncio.sleep(0.01)
        running.terminate()
        await until(lambda: running.poll() is not None)
        assert running.returncode in {0, -signal.SIGTERM}
        with pytest.raises(stripe.APIConnectionError):
            await hanging
