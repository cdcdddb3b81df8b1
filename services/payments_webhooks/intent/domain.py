"""A payment and its states.

creating ──Stripe has it──> open <──> processing ──> succeeded
│                           │            │
└──cancel───> canceled <────┴────────────┘   (only when Stripe confirmed it)

An order has one live payment at a time. Another way to pay is another payment, made when Stripe has confirmed that the
one before is cancelled; that it shall be made is its `successor`. Without one, cancelled is the end of it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Kind", "Payment", "PaymentState", "state_of_intent", "state_of_session"]


class PaymentState(StrEnum):
    """Held by a CHECK constraint and guarded UPDATEs."""

    CREATING = "creating"
    OPEN = "open"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class Kind(StrEnum):
    """How the customer pays. Held by a CHECK constraint."""

    INTENT = "intent"
    """On the shop's own page, with Stripe.js."""
    SESSION = "session"
    """On a page that Stripe hosts."""


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
    kind: Kind
    session_id: str | None
    session_url: str | None
    title: str
    return_path: str
    successor: Kind | None

    @property
    def live(self) -> bool:
        """Whether it may still be paid or ended."""
        return self.state in {PaymentState.CREATING, PaymentState.OPEN, PaymentState.PROCESSING}

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


def state_of_session(status: str | None, payment_status: str) -> PaymentState:
    """Our state for a hosted page (https://docs.stripe.com/api/checkout/sessions/object)."""
    match status:
        case "expired":
            return PaymentState.CANCELED
        case "complete":
            return PaymentState.PROCESSING if payment_status == "unpaid" else PaymentState.SUCCEEDED
        case _:
            return PaymentState.OPEN
