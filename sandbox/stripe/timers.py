"""Things that happen by themselves after a while; kept in the file, so that a restart only makes them late."""

from enum import StrEnum

from sandbox.stripe.store import Store


class Action(StrEnum):
    """What is done when the time comes."""

    SETTLE_REFUND = "settle_refund"
    EXPIRE_SESSION = "expire_session"
    EXPIRE_SUBSCRIPTION = "expire_subscription"
    RENEW_SUBSCRIPTION = "renew_subscription"


def start(store: Store, action: Action, object_id: str, due: float) -> None:
    """Set a timer; call inside the transaction that makes it necessary."""
    store.execute("INSERT INTO timers (due, action, object) VALUES (?, ?, ?)", due, action.value, object_id)


def take_due(store: Store, at: float) -> list[tuple[Action, str]]:
    """Take the timers that are due; call inside the transaction that acts on them."""
    rows = store.execute("DELETE FROM timers WHERE due <= ? RETURNING action, object", at).fetchall()
    return [(Action(row["action"]), row["object"]) for row in rows]


def next_due(store: Store) -> float | None:
    """When the next timer goes off."""
    row = store.execute("SELECT min(due) AS at FROM timers").fetchone()
    return None if row["at"] is None else float(row["at"])
