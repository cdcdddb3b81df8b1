"""Sends events: signed as Stripe signs them, at once and side by side, again and again until somebody takes them."""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence

import httpx

from sandbox.stripe import checkout_sessions, outbox, refunds, subscriptions, timers
from sandbox.stripe.api import render
from sandbox.stripe.ledger import Ledger
from sandbox.stripe.outbox import Attempt, Notice, Pending
from sandbox.stripe.store import Store

_AT_ONCE = 32
_TIMEOUT_SECONDS = 10.0
_AGENT = "Stripe/1.0 (+https://docs.stripe.com/webhooks)"

logger = logging.getLogger(__name__)


def signature(body: bytes, secrets: Sequence[str], timestamp: int) -> str:
    """The Stripe-Signature header: HMAC-SHA256 over `timestamp.body`, one v1 for each secret in use."""
    signed = str(timestamp).encode() + b"." + body
    digests = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={timestamp}", *(f"v1={digest}" for digest in digests)])


class Dispatcher:
    """One task that does what is due: timers, and webhooks out of the outbox."""

    def __init__(
        self,
        store: Store,
        url: str | None,
        secrets: Sequence[str],
        wanted: tuple[str, ...],
        clock: Callable[[], float],
        client: httpx.AsyncClient,
    ) -> None:
        self._store = store
        self._url = url
        self._secrets = secrets
        self._wanted = wanted
        self._clock = clock
        self._client = client
        self._wake = asyncio.Event()
        self._sending: dict[int, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Something was committed that may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; what was under way is sent again after the next start."""
        try:
            while True:
                self._wake.clear()
                try:
                    self._run_timers()
                    self._send_due()
                    await self._sleep()
                except Exception:
                    # A full disk, say. Webhooks must go on once it is over.
                    logger.exception("the dispatcher failed, and tries again in a second")
                    await asyncio.sleep(1)
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)

    async def _sleep(self) -> None:
        moments = [timers.next_due(self._store)]
        if len(self._sending) < _AT_ONCE and self._url is not None:
            moments.append(outbox.next_due(self._store, self._sending))
        known = [moment for moment in moments if moment is not None]
        seconds = max(0.0, min(known) - self._clock()) if known else None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _run_timers(self) -> None:
        at = self._clock()
        next_due = timers.next_due(self._store)
        if next_due is None or next_due > at:
            return
        with self._store.transaction():
            ledger = Ledger(self._store, at, self._wanted)
            for action, object_id in timers.take_due(self._store, at):
                match action:
                    case timers.Action.SETTLE_REFUND:
                        refunds.settle_by_card(ledger, object_id)
                    case timers.Action.EXPIRE_SESSION:
                        checkout_sessions.expire_by_time(ledger, object_id)
                    case timers.Action.EXPIRE_SUBSCRIPTION:
                        subscriptions.expire_by_time(ledger, object_id)
                    case timers.Action.RENEW_SUBSCRIPTION:
                        subscriptions.renew_by_time(ledger, object_id)

    def _send_due(self) -> None:
        if self._url is None:
            return
        room = _AT_ONCE - len(self._sending)
        for pending in outbox.due(self._store, self._clock(), self._sending, room):
            self._sending[pending.id] = asyncio.create_task(self._send(pending))

    async def _send(self, pending: Pending) -> None:
        try:
            attempt = await self._attempt(pending.notice.event, pending.attempts + 1, pending.fault)
            if attempt is not None:
                with self._store.transaction():
                    outbox.record(self._store, pending, attempt, self._clock())
        finally:
            del self._sending[pending.id]
            self._wake.set()

    async def _attempt(self, event_id: str, number: int, fault: str | None = None) -> Attempt | None:
        """Post an event once; None if it no longer exists."""
        event = self._store.get("event", event_id)
        if event is None or self._url is None:
            return None
        status, error = await self._post(self._url, render(event).encode())
        logger.info("%s %s attempt %d: %s", event["type"], event_id, number, error or status)
        return Attempt(number, status, error, fault)

    async def _post(self, url: str, body: bytes) -> tuple[int | None, str | None]:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, self._secrets, int(self._clock())),
            "User-Agent": _AGENT,
        }
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                response = await self._client.post(url, content=body, headers=headers)
        except TimeoutError:
            return None, f"no answer within {_TIMEOUT_SECONDS:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return None, f"{type(error).__name__}: {error}"
        return response.status_code, None if response.is_success else response.text[:500] or response.reason_phrase

    async def redeliver(self, notice: Notice, count: int, *, concurrent: bool) -> list[Attempt]:
        """Send an event again, `count` times, whatever became of it before; these are not retried."""
        first = outbox.attempts_made(self._store, notice.event) + 1
        numbers = range(first, first + count)
        if concurrent:
            return list(await asyncio.gather(*(self._again(notice, number) for number in numbers)))
        return [await self._again(notice, number) for number in numbers]

    async def _again(self, notice: Notice, number: int) -> Attempt:
        made = await self._attempt(notice.event, number)
        attempt = made or Attempt(number, None, "not sent: STRIPE_WEBHOOK_URL is not set, or the sandbox was reset")
        if made is not None and self._store.get("event", notice.event) is not None:
            with self._store.transaction():
                outbox.log(self._store, notice, attempt, self._clock())
            self.wake()
        return attempt
