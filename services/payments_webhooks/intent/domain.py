"""A payment and its states.

creating ──Stripe made the intent──> open ──> processing ──> succeeded
│                                 │  └───────────────────────^
└──cancel───────> canceled <──────┘   (only when Stripe confirmed it)
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Payment", "PaymentState", "state_of_intent"]


class PaymentState(StrEnum):
    """Held by a CHECK constraint and guarded UPDATEs."""

    CREATING = "creating"
    OPEN = "open"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to get an order paid; amount in minor units."""

    id: str
    order_id: str
    attempt: int
    amount: int
    currency: str
    email: str
    state: PaymentState
    stripe_key: int
    payment_intent_id: str | None
    client_secret: str | None
    correlation_id: str
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """What Stripe recognises a repetition by."""
        return f"{self.id}:{self.stripe_key}"

    def metadata(self) -> dict[str, str]:
        """What Stripe keeps for us, so that an intent leads back to its order whatever we forgot."""
        return {
            "order_id": self.order_id,
            "attempt": str(self.attempt),
            "payment_id": self.id,
            "correlation_id": self.correlation_id,
        }


def state_of_intent(status: str) -> PaymentState:
    """Our state for Stripe's status (https://docs.stripe.com/payments/paymentintents/lifecycle)."""
    match status:
        case "succeeded":
            return PaymentState.SUCCEEDED
        case "canceled":
            return PaymentState.CANCELED
        case "processing" | "requires_capture":
            return PaymentState.PROCESSING
        case _:
            return PaymentState.OPEN
