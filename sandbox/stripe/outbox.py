"""Webhooks that are still to be sent, and the log of those that were.

Rows are written in the transaction of the event they announce, so a restart takes up where the process stopped.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from sandbox.stripe import faults
from sandbox.stripe.errors import Json
from sandbox.stripe.faults import Fault, WebhookFault
from sandbox.stripe.store import Store

MAX_ATTEMPTS = 180
"""With the schedule below: about half an hour, where Stripe goes on for three days."""
_FIRST_RETRY = 0.5
_LONGEST_WAIT = 10.0
_ANY_OTHER = "*"


@dataclass(frozen=True, slots=True)
class Notice:
    """The event a webhook announces."""

    event: str
    type: str
    intent: str | None


@dataclass(frozen=True, slots=True)
class Pending:
    """One webhook to send."""

    id: int
    notice: Notice
    attempts: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending a webhook once."""

    number: int
    status: int | None
    error: str | None
    fault: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it: only a 2xx counts."""
        return self.status is not None and 200 <= self.status < 300


def retry_delay(attempts: int) -> float:
    """Seconds until the next attempt: 0.5, 1, 2, 4, 8, then 10."""
    return float(min(_LONGEST_WAIT, _FIRST_RETRY * 2 ** min(attempts - 1, 10)))


def enqueue(store: Store, notice: Notice, at: float) -> None:
    """Queue the webhook of a new event, as it is or as a fault on order would have it."""
    fault = faults.for_event(store, notice.type, notice.intent)
    if fault is None:
        _add(store, notice, at)
        return
    match WebhookFault(fault.fault):
        case WebhookFault.DUPLICATE:
            for _ in range(fault.copies):
                _add(store, notice, at, fault=fault.fault)
        case WebhookFault.DELAY:
            _add(store, notice, at + fault.seconds, fault=fault.fault)
        case WebhookFault.REORDER:
            _hold(store, notice, at, fault)
        case WebhookFault.DROP:
            log(store, notice, Attempt(0, None, "never sent: dropped on order", fault.fault), at)
        case other:
            assert_never(other)


def _hold(store: Store, notice: Notice, at: float, fault: Fault) -> None:
    """Hold an event back until another is delivered; not for ever, or a lost one would take it along."""
    if fault.after is not None and _was_delivered(store, fault.after, notice.intent):
        _add(store, notice, at, fault=fault.fault)
    else:
        _add(store, notice, at + fault.seconds, fault=fault.fault, held_for=fault.after or _ANY_OTHER)


def _was_delivered(store: Store, event_type: str, intent: str | None) -> bool:
    return (
        store.execute(
            "SELECT 1 FROM deliveries WHERE type = ? AND intent IS ? AND status BETWEEN 200 AND 299", event_type, intent
        ).fetchone()
        is not None
    )


def _add(store: Store, notice: Notice, due: float, *, fault: str | None = None, held_for: str | None = None) -> None:
    store.execute(
        "INSERT INTO outbox (event, type, intent, due, held_for, fault) VALUES (?, ?, ?, ?, ?, ?)",
        *(notice.event, notice.type, notice.intent, due, held_for, fault),
    )


def due(store: Store, at: float, busy: Collection[int], limit: int) -> list[Pending]:
    """Webhooks whose time has come, except those being sent."""
    rows = store.execute(
        "SELECT * FROM outbox WHERE due <= ? AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY due, id LIMIT ?",
        *(at, json.dumps(list(busy)), limit),
    )
    return [
        Pending(row["id"], Notice(row["event"], row["type"], row["intent"]), row["attempts"], row["fault"])
        for row in rows.fetchall()
    ]


def next_due(store: Store, busy: Collection[int]) -> float | None:
    """When the next webhook falls due."""
    row = store.execute(
        "SELECT min(due) AS at FROM outbox WHERE id NOT IN (SELECT value FROM json_each(?))", json.dumps(list(busy))
    ).fetchone()
    return None if row["at"] is None else float(row["at"])


def record(store: Store, pending: Pending, attempt: Attempt, at: float) -> None:
    """Note an attempt: it is done, tried again later, or given up; call inside a transaction."""
    if store.execute("SELECT 1 FROM outbox WHERE id = ?", pending.id).fetchone() is None:
        return  # the sandbox was reset while it was under way
    log(store, pending.notice, attempt, at)
    if attempt.delivered or attempt.number >= MAX_ATTEMPTS:
        store.execute("DELETE FROM outbox WHERE id = ?", pending.id)
    else:
        store.execute(
            "UPDATE outbox SET attempts = ?, due = ?, held_for = NULL WHERE id = ?",
            *(attempt.number, at + retry_delay(attempt.number), pending.id),
        )


def log(store: Store, notice: Notice, attempt: Attempt, at: float) -> None:
    """Write the delivery log; a success settles the event and lets go of what was held for it."""
    store.execute(
        "INSERT INTO deliveries (event, type, intent, attempt, status, error, at, fault)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(notice.event, notice.type, notice.intent, attempt.number, attempt.status, attempt.error, at, attempt.fault),
    )
    if attempt.delivered:
        store.execute("UPDATE objects SET body = json_set(body, '$.pending_webhooks', 0) WHERE id = ?", notice.event)
        store.execute(
            "UPDATE outbox SET due = ?, held_for = NULL"
            " WHERE intent = ? AND (held_for = ? OR (held_for = ? AND type <> ?))",
            *(at, notice.intent, notice.type, _ANY_OTHER, notice.type),
        )


def attempts_made(store: Store, event: str) -> int:
    """The highest attempt number in the log of an event."""
    row = store.execute("SELECT coalesce(max(attempt), 0) AS made FROM deliveries WHERE event = ?", event).fetchone()
    return int(row["made"])


def deliveries(store: Store, *, event: str | None, intent: str | None, limit: int) -> list[Json]:
    """The delivery log, newest first."""
    rows = store.execute(
        "SELECT * FROM deliveries WHERE (? IS NULL OR event = ?) AND (? IS NULL OR intent = ?)"
        " ORDER BY id DESC LIMIT ?",
        *(event, event, intent, intent, limit),
    )
    return [
        {
            "id": row["id"],
            "event_id": row["event"],
            "type": row["type"],
            "payment_intent": row["intent"],
            "attempt": row["attempt"],
            "status": row["status"],
            "error": row["error"],
            "at": datetime.fromtimestamp(row["at"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "fault": row["fault"],
        }
        for row in rows
    ]
