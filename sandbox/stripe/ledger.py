"""What one call works with: the store inside its transaction, the time, and the request its events will name."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from sandbox.stripe import ids, outbox
from sandbox.stripe.errors import Json, missing
from sandbox.stripe.forms import Params
from sandbox.stripe.store import Store

API_VERSION = "2026-10-28.endive"
"""The version events are rendered in, and the one answered when a call names none."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The books, open for one call. `webhooks` are the types of events that are sent, `*` for any rest of a name."""

    store: Store
    at: float
    webhooks: tuple[str, ...]
    request_id: str | None = None
    idempotency_key: str | None = None

    @property
    def now(self) -> int:
        """Unix time in whole seconds, as Stripe gives it."""
        return int(self.at)

    def require(self, kind: str, object_id: str, param: str = "id") -> Json:
        """The object the path names; 404 if there is none."""
        found = self.store.get(kind, object_id)
        if found is None:
            raise missing(kind.replace(".", "_"), object_id, param)
        return found

    def emit(self, event_type: str, item: Json, previous: Json | None = None) -> None:
        """Record an event with the object as it is now, and queue its webhook where somebody wants it."""
        wanted = any(fnmatchcase(event_type, group) for group in self.webhooks)
        data: Json = {"object": item} if previous is None else {"object": item, "previous_attributes": previous}
        event: Json = {
            "id": ids.new("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": int(wanted),
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": event_type,
        }
        intent = item["id"] if item["object"] == "payment_intent" else item.get("payment_intent")
        self.store.insert(event, note=intent)
        if wanted:
            outbox.enqueue(self.store, outbox.Notice(event["id"], event_type, intent), self.at)


@dataclass(frozen=True, slots=True)
class Call:
    """One API call: its parameters, the ids in its path, and the address it came in by."""

    ledger: Ledger
    params: Params
    path: dict[str, str]
    base_url: str
