"""Receiving Stripe's events and giving each its effect, once.

The request only stores: inbox row and job in one statement, then 200. What it means is worked out by the job,
which may run again after a crash and finds its work done. What tells nothing new is stored as such, without a job.
"""

from collections.abc import Mapping, Sequence

from reliability import audit, inbox
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.gathering import Gatherer
from reliability.inbox import Change, Received
from reliability.jobs import Job, Park, Worker
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.tally import Tally
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.errors import EventInProgress
from services.payments_webhooks.intent import repository as payments
from services.payments_webhooks.webhook import repository
from services.payments_webhooks.webhook.domain import Event, parse
from services.payments_webhooks.webhook.effects import NOTHING, Handler, Told
from services.payments_webhooks.webhook.repository import StoredEvent

__all__ = ["PROCESS_EVENT", "SOURCE", "WebhookService"]

PROCESS_EVENT = "process_event"
SOURCE = "stripe"
_SETTLED = {"processed", "ignored"}
_log = get_logger(__name__)
_outcomes = Tally(
    "holdfast.payments.webhooks",
    "Events by type and outcome; ignored ones are of a type we do not know",
    ["type", "outcome"],
)


class WebhookService:
    """The inbox and its handlers. `told` says by type when an event tells nothing new."""

    def __init__(
        self,
        database: Database,
        secrets: Sequence[str],
        handlers: Mapping[str, Handler],
        told: Mapping[str, Told],
        worker: Worker,
    ) -> None:
        self._database = database
        self._worker = worker
        self._gatherer = Gatherer(database, worker, job=PROCESS_EVENT)
        self._secrets = secrets
        self._handlers = handlers
        self._told = told

    async def receive(self, body: bytes, signature: str) -> bool:
        """Verifies and stores an event with its job, or without one when it means nothing to us or tells nothing new.

        False when it was stored before.

        Raises `InvalidSignature`, `StaleSignature`, `InvalidEvent`.
        """
        inbox.verify_signature(body, signature, self._secrets)
        event = parse(body)
        if flow := event.metadata.get("correlation_id"):
            adopt_correlation(flow)
        received = Received(SOURCE, event.id, event.type, event.object_key, body)
        outcome = await self._store(event, received)
        crash_point("webhook.not_answered")
        if outcome in _SETTLED:
            _outcomes.add(event.type, outcome)
        return outcome is not None

    async def _store(self, event: Event, received: Received) -> str | None:
        """The state an event was stored in; None when it was stored before."""
        told = self._told.get(event.type)
        if event.type in self._handlers and told is None:
            return await self._gatherer.receive(received)
        async with self._database.connection() as connection:
            if told is None:
                return "ignored" if await inbox.keep(connection, received) else None
            with self._worker.offer(PROCESS_EVENT) as offer:
                return await inbox.receive(connection, received, job=PROCESS_EVENT, known=told(event), offer=offer)

    async def process(self, job: Job) -> None:
        """Works out what an event means, then records effect, inbox and job in one statement or transaction.

        Raises `Park` for an event about nothing that has an id.
        """
        inbox_id = job.payload["inbox_id"]
        async with self._database.connection() as connection:
            body, payment = await payments.of_event(connection, inbox_id)
        event = parse(body, payment)
        handler = self._handlers.get(event.type)
        if handler and not event.names_its_object:
            raise Park(f"The object of this {event.type} has no id: nobody can tell what it is about.")
        effect = await handler(event) if handler else NOTHING
        outcome = "processed" if handler else "ignored"
        if isinstance(effect, Change):
            async with self._database.connection() as connection:
                await inbox.finish(connection, inbox_id, outcome, correlation_id(), job, effect)
            crash_point("webhook.committed")
        else:
            async with self._database.transaction("event processed") as connection:
                await effect(connection)
                await inbox.finish(connection, inbox_id, outcome, correlation_id(), job)
                crash_point("webhook.not_committed")
        _outcomes.add(event.type, outcome)

    async def parked(self, connection: Connection, job: Job, reason: str) -> None:
        """Runs in the transaction that gives up on an event's job."""
        await inbox.park(connection, job.payload["inbox_id"])
        _outcomes.add(await repository.event_type(connection, job.payload["inbox_id"]), "parked")
        _log.error("webhook_parked", inbox_id=job.payload["inbox_id"], reason=reason)

    async def page(
        self, limit: int, before: int | None, state: str | None, event_type: str | None
    ) -> list[StoredEvent]:
        """What came in, newest first."""
        async with self._database.connection() as connection:
            return await repository.page(connection, limit, before, state, event_type)

    async def find(self, inbox_id: int) -> StoredEvent:
        """An event with its body. Raises `NotFound`."""
        async with self._database.connection() as connection:
            event = await repository.find(connection, inbox_id)
        if event is None:
            raise NotFound(f"There is no event {inbox_id}.")
        return event

    async def replay(self, inbox_id: int, staff_id: str) -> StoredEvent:
        """Lets an event be handled again; its handler finds what was done. Raises `NotFound`, `EventInProgress`."""
        async with self._database.transaction("replay event") as connection:
            replayed = await inbox.replay(connection, inbox_id, job=PROCESS_EVENT)
            event = await repository.find(connection, inbox_id)
            if event is None:
                raise NotFound(f"There is no event {inbox_id}.")
            if not replayed:
                raise EventInProgress(f"Event {inbox_id} is being handled.")
            await audit.record(connection, staff_id, "webhook.replayed", event.event_id, type=event.event_type)
        return event
