"""A refund and its states.

pending ──> succeeded ──the bank sends it back──> failed
   └────────────────────────────────────────────────^
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from reliability.ids import is_id

__all__ = ["RefundState", "Told", "state_of_refund"]


class RefundState(StrEnum):
    """Held by a CHECK constraint and a guarded UPDATE."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Told:
    """What Stripe says of a refund; amount in minor units."""

    id: str
    refund_id: str
    amount: int
    currency: str
    state: RefundState
    failure_reason: str

    @classmethod
    def of(cls, refund: Mapping[str, Any]) -> Self:
        """Out of Stripe's object (https://docs.stripe.com/api/refunds/object)."""
        named = str((refund.get("metadata") or {}).get("refund_id", ""))
        return cls(
            id=refund["id"],
            refund_id=named if is_id(named) else "",
            amount=refund["amount"],
            currency=refund["currency"].upper(),
            state=state_of_refund(refund.get("status")),
            failure_reason=refund.get("failure_reason") or "",
        )


def state_of_refund(status: str | None) -> RefundState:
    """Our state for Stripe's status."""
    match status:
        case "succeeded":
            return RefundState.SUCCEEDED
        case "failed" | "canceled":
            return RefundState.FAILED
        case _:
            return RefundState.PENDING
