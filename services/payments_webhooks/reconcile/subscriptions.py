"""What a subscription and Stripe's differ in, and the events that mend it.

Events say what changed within Stripe's thirty days; a subscription lives longer than that.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from services.payments_webhooks.reconcile.domain import Difference, Drift
from services.payments_webhooks.subscription.domain import Invoice, Subscription, Told

__all__ = ["Mending", "compare_invoice", "compare_subscription", "gone"]

Mending = tuple[Difference, str, str, bytes]
"""A difference with the id, type and body of the event Stripe would have sent."""


def compare_subscription(ours: Subscription, stripes: Mapping[str, Any]) -> Mending | None:
    """How a subscription stands there and here; its handler then asks for itself.

    The event is named by the version of ours that is mended: two reconcilers make the same.
    """
    told = Told.of(stripes)
    here = _says(ours.state, ours.current_period_end, ours.cancel_at_period_end)
    there = _says(told.state, told.current_period_end, told.cancel_at_period_end)
    if here == there and (ours.amount, ours.currency) == (told.amount, told.currency):
        return None
    difference = Difference(Drift.STATE_DIFFERS, told.stripe_id, here, there, repaired=True)
    return _event(difference, f"{told.stripe_id}:{ours.version}", "customer.subscription.updated", _named(stripes))


def compare_invoice(ours: Subscription, known: Invoice | None, stripes: Mapping[str, Any]) -> Mending | None:
    """Whether its last invoice was paid or refused, and nobody told us."""
    latest = stripes.get("latest_invoice")
    if not isinstance(latest, Mapping):
        return None
    invoice = Invoice.of(latest, ours.id)
    heard = known is not None and (known.status, known.attempts) == (invoice.status, invoice.attempts)
    if heard or invoice.notice is None:
        return None
    here = f"{known.status}, {known.attempts}" if known else ""
    difference = Difference(
        Drift.STATE_DIFFERS, invoice.id, here, f"{invoice.status}, {invoice.attempts}", repaired=True
    )
    kind = "invoice.paid" if invoice.status == "paid" else "invoice.payment_failed"
    return _event(difference, f"{invoice.notice_key}:{invoice.status}", kind, _named(latest))


def gone(ours: Subscription) -> Difference:
    """Stripe does not know it, which nothing here can mend."""
    return Difference(Drift.STATE_DIFFERS, str(ours.stripe_id), ours.state, "unknown", repaired=False)


def _says(state: object, until: object, ending: object) -> str:
    return f"{state} until {until}{', then over' if ending else ''}"


def _named(thing: Mapping[str, Any]) -> dict[str, Any]:
    """As much of it as tells whose it is: the rest is asked for anew."""
    return {name: thing[name] for name in ("id", "object", "metadata", "parent") if name in thing}


def _event(difference: Difference, name: str, event_type: str, thing: Mapping[str, Any]) -> Mending:
    event_id = f"reconciled:{name}"
    body = orjson.dumps({"id": event_id, "type": event_type, "data": {"object": thing}})
    return difference, event_id, event_type, body
