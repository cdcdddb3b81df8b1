"""What admin is shown, as messages, and the pages it asks for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1 import money_pb2
from holdfast.payments.v1 import payments_pb2 as pb
from reliability.errors import FieldError, NotFound, ValidationFailed
from services.payments_webhooks.dispute.repository import Dispute
from services.payments_webhooks.errors import no_cursor
from services.payments_webhooks.reconcile.repository import DriftRow
from services.payments_webhooks.webhook.domain import without_secrets
from services.payments_webhooks.webhook.repository import StoredEvent

__all__ = [
    "cursor",
    "dispute",
    "drift",
    "inbox_state",
    "next_cursor",
    "number_of",
    "page_size",
    "webhook",
    "whole_webhook",
]

T = TypeVar("T")

_DEFAULT: Final = 20
_MOST: Final = 100
_DIGITS: Final = 18
_STATES: Final = ("received", "processed", "ignored", "parked")


def page_size(request: Any) -> int:
    """How many a request asks for. Raises `ValidationFailed`."""
    if not request.HasField("limit"):
        return _DEFAULT
    if not 1 <= request.limit <= _MOST:
        raise ValidationFailed([FieldError("/limit", f"must be from 1 to {_MOST}")])
    return int(request.limit)


def number_of(text: str) -> int:
    """The number of a row. Raises `NotFound` for what can be none."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise NotFound
    return int(text)


def cursor(text: str) -> int:
    """Where a page begins. Raises `ValidationFailed` for what no page ended with."""
    try:
        return number_of(text)
    except NotFound:
        raise no_cursor() from None


def inbox_state(text: str) -> str:
    """A state of events. Raises `ValidationFailed`: asked for by another word, dead letters would seem to be none."""
    if text not in _STATES:
        raise ValidationFailed([FieldError("/state", f"must be one of {', '.join(_STATES)}")])
    return text


def next_cursor(rows: Sequence[T], limit: int, name: Callable[[T], object]) -> str | None:
    """Where the page after these rows begins; a full page may be the last one."""
    return str(name(rows[-1])) if len(rows) == limit else None


def webhook(event: StoredEvent) -> pb.Webhook:
    """An event in a list."""
    return pb.Webhook(id=str(event.id), **_of_event(event))


def whole_webhook(event: StoredEvent) -> pb.GetWebhookResponse:
    """An event with its body."""
    return pb.GetWebhookResponse(
        webhook_id=str(event.id), body=without_secrets(event.body).decode(), **_of_event(event)
    )


def drift(row: DriftRow) -> pb.Drift:
    """A difference."""
    return pb.Drift(
        id=str(row.id),
        kind=row.kind,
        subject=row.subject,
        ours=row.ours,
        stripes=row.stripes,
        repaired=row.repaired,
        found_at=_timestamp(row.found_at),
    )


def dispute(row: Dispute) -> pb.Dispute:
    """A dispute."""
    return pb.Dispute(
        id=row.id,
        payment_id=row.payment_id,
        payment_intent_id=row.payment_intent_id,
        amount=money_pb2.Money(amount=row.amount, currency=row.currency),
        reason=row.reason,
        status=row.status,
        evidence_due_by=_timestamp(row.evidence_due_by),
        opened_at=_timestamp(row.opened_at),
    )


def _of_event(event: StoredEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.event_type,
        "object": event.object_key,
        "state": event.state,
        "last_error": event.last_error,
        "correlation_id": event.correlation_id,
        "received_at": _timestamp(event.received_at),
        "finished_at": _timestamp(event.finished_at),
    }


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
