"""What orders refuses, and why.

Conflict ── OutOfStock, PriceChanged, CartChanged, CartEmpty, CartFull, CheckoutClosed, PaymentInProgress,
            AmountMismatch, CouponRefused, CouponExists, CouponInUse, SlotTaken, TooLateToChange, AppointmentEnded,
            OrderNotPaid, NotFulfillable
Unprocessable ── UnknownVariant, UnknownCoupon, UnknownRegion, NotShippable, PaymentRefused, RefundExceedsCharge
"""

from reliability.errors import Conflict, Unprocessable

__all__ = [
    "AmountMismatch",
    "AppointmentEnded",
    "CartChanged",
    "CartEmpty",
    "CartFull",
    "CheckoutClosed",
    "CouponExists",
    "CouponInUse",
    "CouponRefused",
    "NotFulfillable",
    "NotShippable",
    "OrderNotPaid",
    "OutOfStock",
    "PaymentInProgress",
    "PaymentRefused",
    "PriceChanged",
    "RefundExceedsCharge",
    "SlotTaken",
    "TooLateToChange",
    "UnknownCoupon",
    "UnknownRegion",
    "UnknownVariant",
]


class OutOfStock(Conflict):
    """Some of it is gone; `changes` says what is left."""

    code, title = "out_of_stock", "Not everything is in stock any more"


class PriceChanged(Conflict):
    """Prices moved since the cart was shown; `changes` says how."""

    code, title = "price_changed", "A price has changed since the cart was shown"


class CartChanged(Conflict):
    """The cart is not the one whose order waits for payment; `changes` says how it differs."""

    code, title = "cart_changed", "The cart is not what it was"


class CartEmpty(Conflict):
    """There is nothing to order."""

    code, title = "cart_empty", "The cart is empty"


class CartFull(Conflict):
    """Two carts do not fit into one."""

    code, title = "cart_full", "It does not fit into one cart"


class CheckoutClosed(Conflict):
    """The checkout was cancelled or has expired."""

    code, title = "checkout_closed", "This checkout has ended"


class PaymentInProgress(Conflict):
    """The money is on its way or here already."""

    code, title = "payment_in_progress", "The payment is being processed"


class AmountMismatch(Conflict):
    """The money that came is not the money that was asked for: a person has to look."""

    code, title = "amount_mismatch", "The payment does not match the order"


class UnknownVariant(Unprocessable):
    """No such variant in the catalog."""

    code, title = "unknown_variant", "There is no such product variant"


class CouponRefused(Conflict):
    """The coupon does not apply to this cart now; `reason` says why."""

    code, title = "coupon_refused", "The coupon does not apply"


class CouponExists(Conflict):
    """Codes are unique, also against coupons that are over."""

    code, title = "coupon_exists", "There is a coupon with this code"


class CouponInUse(Conflict):
    """Orders were placed with it: it can be ended, not deleted."""

    code, title = "coupon_in_use", "The coupon has been used"


class OrderNotPaid(Conflict):
    """Only what was paid can be sent back, sent out or confirmed."""

    code, title = "order_not_paid", "The order is not paid"


class NotFulfillable(Conflict):
    """It was sent already, its stock is not out of the warehouse, or its money has gone back."""

    code, title = "not_fulfillable", "The order cannot be sent"


class SlotTaken(Conflict):
    """Somebody else was faster, or nobody is there."""

    code, title = "slot_taken", "This time is taken"


class TooLateToChange(Conflict):
    """The appointment is too close; `until` says until when it could be changed."""

    code, title = "too_late", "It is too late to change this appointment"


class AppointmentEnded(Conflict):
    """It was cancelled, or is over."""

    code, title = "appointment_ended", "This appointment is no longer booked"


class UnknownCoupon(Unprocessable):
    """No such coupon."""

    code, title = "unknown_coupon", "There is no such coupon"


class UnknownRegion(Unprocessable):
    """The destination does not say enough to know its tax."""

    code, title = "unknown_region", "The region of the address is not known"


class NotShippable(Unprocessable):
    """No tariff for sending this."""

    code, title = "not_shippable", "This cannot be sent there"


class PaymentRefused(Unprocessable):
    """The payment provider takes no payment of this order, and will not when asked again."""

    code, title = "payment_refused", "This order cannot be paid"


class RefundExceedsCharge(Unprocessable):
    """More would go back than came in, or in another currency."""

    code, title = "refund_exceeds_charge", "The refunds would exceed what was charged"
