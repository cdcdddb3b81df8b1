"""Stripe's events, as far as we read them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from services.payments_webhooks.errors import InvalidEvent
from services.payments_webhooks.intent.domain import Payment

__all__ = ["Event", "parse", "subscription_of", "without_secrets"]

_SECRET = {"client_secret", "hosted_invoice_url", "invoice_pdf"}

_NAME = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Event:
    """An event (https://docs.stripe.com/api/events/object).

    `payment` is ours of the intent it is about, as it was when we began with the event; None if there was none.
    """

    id: str
    type: str
    object: dict[str, Any]
    payment: Payment | None = None

    @property
    def object_key(self) -> str:
        """What the event is about: events with the same key are handled one after the other.

        Charges, refunds, disputes and hosted pages go with their intent, invoices with their subscription.
        """
        for value in (subscription_of(self.object), self.object.get("payment_intent"), self.object.get("id")):
            if _is_name(value):
                return str(value)
        return self.id

    @property
    def names_its_object(self) -> bool:
        """Whether its object has an id, as everything has that lives at Stripe: no handler can do without."""
        return _is_name(self.object.get("id"))

    @property
    def metadata(self) -> dict[str, str]:
        """What we gave Stripe to keep."""
        metadata = self.object.get("metadata")
        items = metadata.items() if isinstance(metadata, dict) else ()
        return {name: value for name, value in items if isinstance(value, str)}


def subscription_of(invoice: Mapping[str, Any]) -> str | None:
    """The subscription an invoice is for, if it is one's."""
    if invoice.get("object") != "invoice":
        return None
    found: Any = invoice
    for name in ("parent", "subscription_details", "subscription"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if _is_name(found) else None


def parse(body: bytes, payment: Payment | None = None) -> Event:
    """An event from a verified body, about this payment. Raises `InvalidEvent`."""
    try:
        event = orjson.loads(body)
        found = event["id"], event["type"], event["data"]["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidEvent("The body is signed but is not a Stripe event.") from error
    if not (_is_name(found[0]) and _is_name(found[1]) and isinstance(found[2], dict)):
        raise InvalidEvent("The event's id, type or object is not what it should be.")
    return Event(*found, payment)


def _is_name(value: Any) -> bool:
    """Whether it can be a key: one that could never be stored must not be sent again and again."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def without_secrets(body: bytes) -> bytes:
    """A stored body as a person may see it: with a client secret one could pay in the customer's name."""
    return orjson.dumps(_masked(orjson.loads(body)))


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: "***" if key in _SECRET and item else _masked(item) for key, item in value.items()}
        case list():
            return [_masked(item) for item in value]
        case _:
            return value
