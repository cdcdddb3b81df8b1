"""Where a process is made to die, and which: a point a table, by what is going on then."""

from typing import Any

import pytest

# Who dies, by the point, while the customer waits for the checkout's answer,
CHECKOUT = {
    "hold.not_answered": "catalog",
    "checkout.priced": "orders",
    "checkout.ordered": "orders",
    "checkout.held": "orders",
    "checkout.intent_created": "orders",
    "checkout.answer_not_committed": "orders",
    "checkout.not_answered": "orders",
    "intent.not_created": "payments-webhooks",
    "intent.not_stored": "payments-webhooks",
    "intent.not_answered": "payments-webhooks",
}
# with a coupon in the cart, whose use is counted with the order,
CHECKOUT_WITH_COUPON = {
    "checkout.claimed": "orders",
    "checkout.order_not_committed": "orders",
}
# after the payment,
PAYMENT = {
    "webhook.not_answered": "payments-webhooks",
    "webhook.not_reported": "payments-webhooks",
    "webhook.reported": "payments-webhooks",
    "webhook.committed": "payments-webhooks",
    "payment.not_committed": "orders",
    "payment.not_answered": "orders",
    "stock.not_noted": "orders",
    "confirmation.not_noted": "orders",
    "confirmation.not_answered": "notifications",
    "mail.not_sent": "notifications",
    "mail.not_noted": "notifications",
}
# while who is to tell the customer is away,
UNTOLD = "stock.noted"
# and after a payment for stock that is gone.
REFUND = {
    "stock.lost": "orders",
    "refund.asked_not_answered": "payments-webhooks",
    "refund.asked_not_noted": "orders",
    "refund.not_stored": "payments-webhooks",
    "webhook.not_committed": "payments-webhooks",
    "refund.reported_not_noted": "payments-webhooks",
    "refund.recorded_not_answered": "orders",
    "refund.notice_not_noted": "orders",
    "mail.not_answered": "notifications",
    "audience.refund_not_noted": "orders",
}
# Staff send money back, or goods out,
STAFF_REFUND = {"refund.decided_not_committed": "orders", "refund.asked_not_noted": "orders"}
FULFILMENT = {"fulfilment.not_committed": "orders", "fulfilment.notice_not_noted": "orders"}
# money comes for an order that is over,
UNUSABLE = "refund.unusable_asked_not_noted"
# While a checkout is given up, or its time is up,
CANCEL = {
    "cancel.not_asked": "orders",
    "cancel.confirmed_by_stripe": "orders",
    "cancel.not_committed": "orders",
    "release.not_noted": "orders",
}
# while one whose time is up is found to be paid,
EXPIRY = "expiry.extended_not_noted"
# while a refund is sent back by the bank,
FAILED_REFUND = "refund.failure_reported_not_noted"
# and while what nobody told us is found out.
RECONCILIATION = {
    "reconcile.page_stored": "payments-webhooks",
    "reconcile.not_noted": "payments-webhooks",
}
# A signed-in customer changes the way to pay, or saves a card,
PAYING = {
    "switch.not_ended": "payments-webhooks",
    "switch.not_replaced": "payments-webhooks",
    "pay.not_answered": "payments-webhooks",
    "customer.not_stored": "payments-webhooks",
}
# subscribes and pays the first time, or ends it.
SUBSCRIBING = {
    "subscription.not_created": "payments-webhooks",
    "subscription.not_stored": "payments-webhooks",
    "subscription.not_answered": "payments-webhooks",
    "subscription.change_not_stored": "payments-webhooks",
    "subscription.notice_not_noted": "payments-webhooks",
}
CAMPAIGN = "campaign.not_noted"
# Died at in a module of their own: accounts (test_account_crash_points.py),
ACCOUNT = {
    "signup.not_committed",
    "signup.not_answered",
    "login.not_answered",
    "refresh.not_committed",
    "refresh.not_answered",
    "reset.not_committed",
    "reset.not_answered",
    "erase.not_committed",
    "erase.not_answered",
    "oauth.not_committed",
    "invitation.not_committed",
    "removal.not_committed",
}
# and batches of a provider that deduplicates (test_batch_crash_points.py).
BATCH = {"campaign.not_shipped", "campaign.not_noted"}
DIES = (
    CHECKOUT
    | CHECKOUT_WITH_COUPON
    | PAYMENT
    | REFUND
    | CANCEL
    | RECONCILIATION
    | PAYING
    | SUBSCRIBING
    | STAFF_REFUND
    | FULFILMENT
    | {UNTOLD: "orders", EXPIRY: "orders", FAILED_REFUND: "payments-webhooks", UNUSABLE: "orders"}
)
# Tried in every run: money asked for and not noted, an effect whose job is not settled, a mail nobody noted.
ALWAYS = {"checkout.intent_created", "intent.not_stored", "webhook.reported", "mail.not_noted"}


def some(points: dict[str, str]) -> list[Any]:
    """Parameters: the points, most of them only for long runs."""
    return [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long) for name in points]
