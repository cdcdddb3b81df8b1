"""What differs, and what mends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import orjson

from services.payments_webhooks.intent.domain import Payment, PaymentState, state_of_intent, state_of_session

__all__ = ["Difference", "Drift", "compare", "compare_page", "lost", "mending", "mending_page"]


class Drift(StrEnum):
    """Held by a CHECK constraint."""

    MISSING_EVENT = "missing_event"
    STATE_DIFFERS = "state_differs"
    AMOUNT_DIFFERS = "amount_differs"
    BEYOND_REACH = "beyond_reach"
    """Events of the time between the watermark and what Stripe still lists are lost to us."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the books differ, each side in its own words."""

    kind: Drift
    subject: str
    ours: str
    stripes: str
    repaired: bool


def compare(payment: Payment, intent: Mapping[str, Any]) -> Difference | None:
    """How a payment and its intent differ, if they do. What can be mended is: see `mending`."""
    ours, stripes = f"{payment.amount} {payment.currency}", f"{intent['amount']} {intent['currency'].upper()}"
    if ours != stripes:
        return Difference(Drift.AMOUNT_DIFFERS, intent["id"], ours, stripes, repaired=False)
    state = state_of_intent(intent["status"])
    if state == payment.state:
        return None
    final = payment.state in {PaymentState.SUCCEEDED, PaymentState.CANCELED}
    return Difference(Drift.STATE_DIFFERS, intent["id"], payment.state, state, repaired=not final)


def compare_page(payment: Payment, session: Mapping[str, Any]) -> Difference | None:
    """How a payment and its hosted page differ, if they do."""
    state = state_of_session(session["status"], session["payment_status"])
    if state == payment.state:
        return None
    return Difference(Drift.STATE_DIFFERS, session["id"], payment.state, state, repaired=True)


def lost(payment: Payment) -> Difference:
    """A payment of which Stripe says that it never heard."""
    subject = payment.payment_intent_id or payment.session_id or payment.id
    return Difference(Drift.STATE_DIFFERS, subject, payment.state, "unknown", repaired=False)


def mending_page(session: Mapping[str, Any]) -> tuple[str, str, bytes]:
    """As `mending`, of a hosted page."""
    event_type = f"checkout.session.{'expired' if session['status'] == 'expired' else 'completed'}"
    event_id = f"reconciled:{session['id']}:{session['status']}"
    return event_id, event_type, orjson.dumps({"id": event_id, "type": event_type, "data": {"object": session}})


def mending(intent: Mapping[str, Any]) -> tuple[str, str, bytes]:
    """Id, type and body of the event Stripe would have sent for the state an intent is in.

    The id is the state's: two reconcilers make the same event, and the inbox takes it once.
    """
    event_type = f"payment_intent.{_event_of(state_of_intent(intent['status']))}"
    event_id = f"reconciled:{intent['id']}:{intent['status']}"
    return event_id, event_type, orjson.dumps({"id": event_id, "type": event_type, "data": {"object": intent}})


def _event_of(state: PaymentState) -> str:
    match state:
        case PaymentState.SUCCEEDED:
            return "succeeded"
        case PaymentState.CANCELED:
            return "canceled"
        case PaymentState.PROCESSING:
            return "processing"
        case PaymentState.OPEN | PaymentState.CREATING:
            return "payment_failed"
        case _:
            assert_never(state)
