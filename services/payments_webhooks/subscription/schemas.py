"""What customers send and get."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.payments_webhooks.pay.schemas import MoneyView
from services.payments_webhooks.subscription.domain import Subscription

__all__ = ["Subscribe", "SubscriptionPage", "SubscriptionView"]


class Subscribe(BaseModel):
    """To a plan, charged to a saved card, or to the one the first payment is made with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    plan: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    payment_method_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class SubscriptionView(BaseModel):
    """A subscription as its owner sees it. `status` is in Stripe's words.

    `client_secret` is what Stripe.js makes the first payment with, given when it is begun and not yet paid.
    """

    id: str
    plan: str
    title: str
    status: str
    price: MoneyView
    interval: str
    interval_count: int
    current_period_end: datetime | None
    cancel_at_period_end: bool
    created_at: datetime
    ended_at: datetime | None
    client_secret: str | None = None

    @classmethod
    def of(cls, subscription: Subscription, client_secret: str | None = None) -> "SubscriptionView":
        """As its owner sees it."""
        return cls(
            id=subscription.id,
            plan=subscription.plan,
            title=subscription.title,
            status=subscription.state,
            price=MoneyView(amount=subscription.amount, currency=subscription.currency),
            interval=subscription.every,
            interval_count=subscription.every_count,
            current_period_end=subscription.current_period_end,
            cancel_at_period_end=subscription.cancel_at_period_end,
            created_at=subscription.created_at,
            ended_at=subscription.ended_at,
            client_secret=client_secret,
        )


class SubscriptionPage(BaseModel):
    """A page of subscriptions."""

    items: list[SubscriptionView]
    next_cursor: str | None
