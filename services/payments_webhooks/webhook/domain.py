"""Stripe's events, as far as we read them."""

from dataclasses import dataclass
from typing import Any

import orjson

from services.payments_webhooks.errors import InvalidEvent

__all__ = ["Event", "parse"]


@dataclass(frozen=True, slots=True)
class Event:
    """An event (https://docs.stripe.com/api/events/object)."""

    id: str
    type: str
    object: dict[str, Any]

    @property
    def object_key(self) -> str:
        """What the event is about: events with the same key are handled in the order they came."""
        intent = self.object.get("payment_intent")
        return str(intent if isinstance(intent, str) else self.object.get("id", self.id))

    @property
    def metadata(self) -> dict[str, str]:
        """What we gave Stripe to keep."""
        metadata = self.object.get("metadata")
        return metadata if isinstance(metadata, dict) else {}


def parse(body: bytes) -> Event:
    """An event from a verified body. Raises `InvalidEvent`."""
    try:
        event = orjson.loads(body)
        return Event(str(event["id"]), str(event["type"]), dict(event["data"]["object"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidEvent("The body is signed but is not a Stripe event.") from error
