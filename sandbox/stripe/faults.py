"""Bad days on order: what shall go wrong with the next matching API calls or webhook deliveries."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from sandbox.stripe.errors import Json
from sandbox.stripe.store import Store


class ApiFault(StrEnum):
    """What can happen to an API call."""

    ERROR_AFTER_EFFECT = "500"
    ERROR_BEFORE_EFFECT = "500_before_effect"
    RATE_LIMITED = "429"
    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"
    TIMEOUT_BEFORE_EFFECT = "timeout_before_effect"
    CONNECTION_RESET = "connection_reset"
    DELAY = "delay"


class WebhookFault(StrEnum):
    """What can happen to the delivery of an event."""

    DUPLICATE = "duplicate"
    DELAY = "delay"
    REORDER = "reorder"
    DROP = "drop"


class FaultError(Exception):
    """An order that cannot be understood; says what can be ordered."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One order. `seconds` is the delay, or how long at most a call hangs or an event is held back."""

    on: str
    fault: str
    times: int = 1
    method: str | None = None
    path: str | None = None
    type: str | None = None
    payment_intent: str | None = None
    copies: int = 2
    seconds: float = 5.0
    after: str | None = None


_KNOWN = {"api": frozenset(ApiFault), "webhook": frozenset(WebhookFault)}
_FIELDS = {
    "api": frozenset({"on", "fault", "times", "method", "path", "seconds"}),
    "webhook": frozenset({"on", "fault", "times", "type", "payment_intent", "copies", "seconds", "after"}),
}
_LONGEST_HOLD = 60.0


def parse(order: object) -> Fault:
    """Read an order; raise `FaultError` for one that would not do what it says."""
    if not isinstance(order, dict) or order.get("on") not in list(_KNOWN):
        raise FaultError('"on" must be "api" or "webhook"')
    on, name = order["on"], str(order.get("fault"))
    if name not in _KNOWN[on]:
        raise FaultError(f'unknown fault {name!r} on "{on}": the known ones are {", ".join(sorted(_KNOWN[on]))}')
    unknown = sorted(set(order) - _FIELDS[on])
    if unknown:
        raise FaultError(f"unknown fields {', '.join(unknown)}: the known ones are {', '.join(sorted(_FIELDS[on]))}")
    for key in {"method", "path", "type", "payment_intent", "after"} & order.keys():
        if not isinstance(order[key], str):
            raise FaultError(f'"{key}" must be a string')
    numbers = {key: _number(order, key) for key in ("times", "copies", "seconds") if key in order}
    defaults = {} if name == WebhookFault.DELAY else {"seconds": _LONGEST_HOLD}
    return Fault(**{**defaults, **order, **numbers, "fault": name})


def _number(order: dict[str, Any], key: str) -> float:
    value, least, most = order[key], 0 if key == "seconds" else 1, 86_400 if key == "seconds" else 1_000
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not fits or (key != "seconds" and not isinstance(value, int)):
        raise FaultError(f'"{key}" must be a number from {least} to {most}')
    return float(value) if key == "seconds" else int(value)


def order(store: Store, fault: Fault) -> Json:
    """Keep an order until it has been used up; call inside a transaction."""
    cursor = store.execute("INSERT INTO faults (spec, remaining) VALUES (?, ?)", json.dumps(asdict(fault)), fault.times)
    return _view(cursor.lastrowid or 0, fault, fault.times)


def ordered(store: Store) -> list[Json]:
    """Every order, used up or not, oldest first."""
    rows = store.execute("SELECT id, spec, remaining FROM faults ORDER BY id")
    return [_view(row["id"], Fault(**json.loads(row["spec"])), row["remaining"]) for row in rows]


def clear(store: Store) -> int:
    """Withdraw every order."""
    return store.execute("DELETE FROM faults").rowcount


def for_call(store: Store, method: str, path: str, *, replay: bool) -> Fault | None:
    """Take the first order for this call. A replay runs nothing, so a 500 waits for a call that does."""

    def matches(fault: Fault) -> bool:
        runs = fault.fault in {ApiFault.ERROR_AFTER_EFFECT, ApiFault.ERROR_BEFORE_EFFECT}
        return (
            fault.on == "api"
            and not (replay and runs)
            and (fault.method or method).upper() == method
            and fnmatchcase(path, fault.path or "*")
        )

    return _take(store, matches)


def for_event(store: Store, event_type: str, intent: str | None) -> Fault | None:
    """Take the first order for the delivery of this event."""
    return _take(
        store,
        lambda fault: (
            fault.on == "webhook"
            and fnmatchcase(event_type, fault.type or "*")
            and fault.payment_intent in {None, intent}
        ),
    )


def _take(store: Store, matches: Callable[[Fault], bool]) -> Fault | None:
    for row in store.execute("SELECT id, spec FROM faults WHERE remaining > 0 ORDER BY id").fetchall():
        fault = Fault(**json.loads(row["spec"]))
        if matches(fault):
            store.execute("UPDATE faults SET remaining = remaining - 1 WHERE id = ?", row["id"])
            return fault
    return None


def _view(fault_id: int, fault: Fault, remaining: int) -> Json:
    fields = {key: value for key, value in asdict(fault).items() if key in _FIELDS[fault.on] and value is not None}
    return {"id": fault_id, **fields, "remaining": remaining}
