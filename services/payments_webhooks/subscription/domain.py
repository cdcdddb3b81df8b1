"""A subscription and its states.

creating ──Stripe has it──> incomplete ──first invoice paid──> active <──paid──> past_due, unpaid
    └──refused                  └──23 h──> incomplete_expired    └──its period ends, or Stripe gives up──> canceled

From `incomplete` on the words are Stripe's, always as Stripe has them now
(https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

__all__ = ["Invoice", "Notice", "Plan", "Subscription", "SubscriptionState", "Told", "notice_of_change"]


class SubscriptionState(StrEnum):
    """Held by a CHECK constraint."""

    CREATING = "creating"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"
    INCOMPLETE_EXPIRED = "incomplete_expired"
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    UNPAID = "unpaid"
    PAUSED = "paused"
    CANCELED = "canceled"

    @property
    def over(self) -> bool:
        """Whether nothing can follow."""
        return self in {self.REFUSED, self.INCOMPLETE_EXPIRED, self.CANCELED}

    @property
    def began(self) -> bool:
        """Whether the customer has it, paid or not."""
        return self in {self.TRIALING, self.ACTIVE, self.PAST_DUE, self.UNPAID, self.PAUSED}


class Notice(StrEnum):
    """What a customer is told by mail; each is a template of notifications."""

    PAID = "subscription_paid"
    PAYMENT_FAILED = "subscription_payment_failed"
    ENDED = "subscription_ended"


@dataclass(frozen=True, slots=True)
class Plan:
    """A recurring price at Stripe by its lookup key; amount in minor units."""

    name: str
    title: str
    price_id: str
    amount: int
    currency: str
    every: str
    every_count: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription of a customer's; amount in minor units."""

    id: str
    account_id: str
    customer_id: str
    customer_name: str
    email: str
    plan: str
    title: str
    price_id: str
    amount: int
    currency: str
    every: str
    every_count: int
    payment_method_id: str | None
    state: SubscriptionState
    stripe_key: int
    stripe_id: str | None
    cancel_at_period_end: bool
    current_period_end: datetime | None
    ended_at: datetime | None
    version: int
    correlation_id: str
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """What Stripe recognises a repetition by."""
        return f"subscription:{self.id}:{self.stripe_key}"

    def metadata(self) -> dict[str, str]:
        """What Stripe keeps for us, so that a subscription leads back to its row whatever we forgot."""
        return {"subscription_id": self.id, "correlation_id": self.correlation_id}


@dataclass(frozen=True, slots=True)
class Told:
    """A subscription as Stripe has it; amount in minor units."""

    stripe_id: str
    state: SubscriptionState
    cancel_at_period_end: bool
    current_period_end: datetime | None
    ended_at: datetime | None
    amount: int
    currency: str
    client_secret: str | None

    @classmethod
    def of(cls, subscription: Mapping[str, Any]) -> "Told":
        """Raises `ValueError` for a status that Stripe has invented since."""
        item = subscription["items"]["data"][0]
        return cls(
            stripe_id=subscription["id"],
            state=SubscriptionState(subscription["status"]),
            cancel_at_period_end=subscription["cancel_at_period_end"],
            current_period_end=_instant(item["current_period_end"]),
            ended_at=_instant(subscription["ended_at"]),
            amount=(item["price"]["unit_amount"] or 0) * item["quantity"],
            currency=item["price"]["currency"].upper(),
            client_secret=_client_secret(subscription.get("latest_invoice")),
        )


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as Stripe has it; amounts in minor units, `status` and `reason` in Stripe's words."""

    id: str
    subscription_id: str
    reason: str
    amount_due: int
    amount_paid: int
    currency: str
    status: str
    attempts: int
    next_attempt_at: datetime | None
    made_at: datetime

    @classmethod
    def of(cls, invoice: Mapping[str, Any], subscription_id: str) -> "Invoice":
        """An invoice of a subscription of ours."""
        return cls(
            id=invoice["id"],
            subscription_id=subscription_id,
            reason=invoice["billing_reason"] or "",
            amount_due=invoice["amount_due"],
            amount_paid=invoice["amount_paid"],
            currency=invoice["currency"].upper(),
            status=invoice["status"],
            attempts=invoice["attempt_count"],
            next_attempt_at=_instant(invoice["next_payment_attempt"]),
            made_at=datetime.fromtimestamp(invoice["created"], UTC),
        )

    @property
    def notice(self) -> Notice | None:
        """What the customer is told of it: money that came, or a renewal that was refused."""
        if self.status == "paid":
            return Notice.PAID if self.amount_paid > 0 else None
        # Of the first payment the customer hears on the page where they make it.
        renewal = self.reason != "subscription_create"
        return Notice.PAYMENT_FAILED if self.status == "open" and self.attempts > 0 and renewal else None

    @property
    def notice_key(self) -> str:
        """Names the mail among all: each refusal of one invoice has its own."""
        return self.id if self.status == "paid" else f"{self.id}:{self.attempts}"


def notice_of_change(before: SubscriptionState, after: SubscriptionState) -> Notice | None:
    """What the customer is told when a subscription goes from one state to another."""
    return Notice.ENDED if before.began and after is SubscriptionState.CANCELED else None


def _instant(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _client_secret(invoice: Any) -> str | None:
    """What Stripe.js pays the first invoice with, where the answer was asked to hold it."""
    secret = invoice.get("confirmation_secret") if isinstance(invoice, Mapping) else None
    return secret["client_secret"] if secret else None
