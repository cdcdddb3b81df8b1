"""What payments refuses, and why.

Conflict ── AlreadySubscribed, EventInProgress, OrderNotPayable, PaymentCancelled, PaymentDiffers, PaymentElsewhere,
            PaymentInProgress, SubscriptionEnded, SubscriptionUnpaid
Unprocessable ── AmountRefused, PaymentRefused, RefundExceedsCharge, SubscriptionRefused
InvalidRequest ── InvalidEvent
"""

from reliability.errors import Conflict, FieldError, InvalidRequest, Unprocessable, ValidationFailed

__all__ = [
    "AlreadySubscribed",
    "AmountRefused",
    "EventInProgress",
    "InvalidEvent",
    "OrderNotPayable",
    "PaymentCancelled",
    "PaymentDiffers",
    "PaymentElsewhere",
    "PaymentInProgress",
    "PaymentRefused",
    "RefundExceedsCharge",
    "SubscriptionEnded",
    "SubscriptionRefused",
    "SubscriptionUnpaid",
    "no_cursor",
]


class AlreadySubscribed(Conflict):
    """One live subscription to a plan is enough."""

    code, title = "already_subscribed", "There is a subscription to this plan"


class EventInProgress(Conflict):
    """Only what was handled, or given up, can be handled again."""

    code, title = "event_in_progress", "This event is being handled"


class OrderNotPayable(Conflict):
    """Only an order that is pending waits for money."""

    code, title = "order_not_payable", "This order cannot be paid"


class PaymentInProgress(Conflict):
    """Money is on its way, or has come: it is too late to pay in another way."""

    code, title = "payment_in_progress", "A payment of this order is under way"


class PaymentElsewhere(Conflict):
    """The customer chose Stripe's page; there is no intent to confirm here."""

    code, title = "payment_elsewhere", "This order is being paid on another page"


class PaymentCancelled(Conflict):
    """The order's payment was cancelled; there will be no intent for it."""

    code, title = "payment_cancelled", "This payment was cancelled"


class PaymentDiffers(Conflict):
    """The same payment was asked for with another amount."""

    code, title = "payment_differs", "This payment exists with another amount"


class AmountRefused(Unprocessable):
    """Stripe takes no payment of this size, so nothing was begun: below 50 cents, say, or above what it can hold."""

    code, title = "amount_refused", "This amount cannot be paid"


class PaymentRefused(Unprocessable):
    """Stripe takes no such payment and says so for good, so nothing was begun: a currency it does not know, say."""

    code, title = "payment_refused", "This order cannot be paid"


class SubscriptionEnded(Conflict):
    """What is over stays so; subscribing anew is another subscription."""

    code, title = "subscription_ended", "This subscription is over"


class SubscriptionUnpaid(Conflict):
    """Its first payment is still to come: until then it can only be paid or cancelled."""

    code, title = "subscription_unpaid", "This subscription has not begun"


class SubscriptionRefused(Unprocessable):
    """The card was refused, or Stripe takes no such subscription: there is none, and nothing was charged."""

    code, title = "subscription_refused", "The subscription could not be paid"


class RefundExceedsCharge(Unprocessable):
    """More would go back than came in."""

    code, title = "refund_exceeds_charge", "The refunds would exceed what was charged"


class InvalidEvent(InvalidRequest):
    """Signed correctly, but not an event."""

    code, title = "invalid_event", "The body is not an event"


def no_cursor() -> ValidationFailed:
    """The refusal of a page behind something that is not in the list."""
    return ValidationFailed([FieldError("/cursor", "is not a cursor of this list; start again without one")])
