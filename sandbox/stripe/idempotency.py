"""Idempotency keys, as Stripe documents them: the first answer is kept for 24 hours and given again."""

import hashlib
import json
from dataclasses import dataclass

from sandbox.stripe.errors import IdempotencyMismatch, InvalidParameter
from sandbox.stripe.forms import Params
from sandbox.stripe.store import Store

_KEPT_SECONDS = 24 * 3600
_MAX_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer a key stands for."""

    status: int
    body: str
    request_id: str


def fingerprint(method: str, path: str, params: Params) -> str:
    """What the key is bound to: the endpoint, and the parameters in any order."""
    canonical = json.dumps(params.tree(), sort_keys=True)
    return f"{method} {path} {hashlib.sha256(canonical.encode()).hexdigest()}"


def check(key: str) -> None:
    """Refuse a key Stripe would refuse."""
    if len(key) > _MAX_LENGTH:
        raise InvalidParameter(f"Idempotency keys can be at most {_MAX_LENGTH} characters long.")


def recall(store: Store, key: str, bound_to: str, at: float) -> Kept | None:
    """The answer kept under a key; raise `IdempotencyMismatch` if it was used for something else."""
    row = store.execute("SELECT * FROM idempotency WHERE key = ? AND created > ?", key, at - _KEPT_SECONDS).fetchone()
    if row is None:
        return None
    if row["fingerprint"] != bound_to:
        raise _mismatch(key, row["fingerprint"], bound_to)
    return Kept(row["status"], row["body"], row["request_id"])


def _mismatch(key: str, first: str, now: str) -> IdempotencyMismatch:
    endpoint = first.split(" ")[1]
    if endpoint != now.split(" ")[1]:
        return IdempotencyMismatch(
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{endpoint}'). Try using a key other than '{key}' if you meant to execute a different request."
        )
    return IdempotencyMismatch(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request."
    )


def keep(store: Store, key: str, bound_to: str, answer: Kept, at: float) -> None:
    """Keep an answer, and forget those past their day; call inside the transaction of the effect."""
    store.execute("DELETE FROM idempotency WHERE created <= ?", at - _KEPT_SECONDS)
    store.execute(
        "INSERT INTO idempotency (key, fingerprint, status, body, request_id, created) VALUES (?, ?, ?, ?, ?, ?)",
        *(key, bound_to, answer.status, answer.body, answer.request_id, at),
    )
