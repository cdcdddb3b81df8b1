"""An order, its states, and what money does to it.

pending ──payment──> paid ──sent──> fulfilled
│                     └────────────────┴──some money back──> partially_refunded ──all──> refunded
└──cancel, expiry (once Stripe confirmed)──> cancelled
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, assert_never

__all__ = [
    "Actor",
    "Event",
    "Order",
    "OrderLine",
    "OrderStatus",
    "PaymentOutcome",
    "StockState",
    "outcome_of_payment",
    "staff",
    "staff_of",
]

_STAFF: Final = "staff:"


class OrderStatus(StrEnum):
    """Held by a CHECK constraint and guarded UPDATEs."""

    PENDING = "pending"
    PAID = "paid"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


class StockState(StrEnum):
    """What became of the stock."""

    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"
    LOST = "lost"


class PaymentOutcome(StrEnum):
    """What an order makes of money."""

    APPLIED = "applied"
    REFUND = "refund"


class Actor(StrEnum):
    """Who changed an order, in its timeline; staff are named by `staff:<id>`."""

    CUSTOMER = "customer"
    PAYMENTS = "payments"
    CLOCK = "clock"
    ORDERS = "orders"


def staff(staff_id: str) -> str:
    """How a timeline names a member of staff."""
    return f"{_STAFF}{staff_id}"


def staff_of(actor: str) -> str | None:
    """The member of staff an actor is; None when it is none."""
    return actor.removeprefix(_STAFF) if actor.startswith(_STAFF) else None


@dataclass(frozen=True, slots=True)
class Event:
    """A line of an order's timeline."""

    status: str
    reason: str
    actor: str
    correlation_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderLine:
    """Pieces of one variant, at the price they were sold for, in minor units."""

    variant_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    category: str = ""
    discount: int = 0
    tax: int = 0
    product_id: str | None = None

    @property
    def line_total(self) -> int:
        """Minor units."""
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its lines; amounts in minor units of `currency`."""

    id: str
    number: str
    cart_id: str
    status: OrderStatus
    stock: StockState
    email: str
    shipping_address: dict[str, Any]
    shipping_method: str
    note: str
    currency: str
    subtotal: int
    discount: int
    shipping: int
    tax: int
    total: int
    hold_expires_at: datetime
    payment_intent_id: str | None
    client_secret: str | None
    correlation_id: str
    lines: tuple[OrderLine, ...]
    customer_id: str | None
    created_at: datetime
    coupon_code: str | None
    shipping_tax: int
    ending_reason: str | None = None
    ending_actor: str | None = None
    paid_at: datetime | None = None

    @property
    def ending(self) -> bool:
        """Whether somebody has asked the payment provider to end it, and has not come back yet."""
        return self.status is OrderStatus.PENDING and self.ending_reason is not None

    def quantities(self) -> dict[str, int]:
        """Pieces by variant."""
        return {line.variant_id: line.quantity for line in self.lines}


def outcome_of_payment(status: OrderStatus) -> PaymentOutcome:
    """Only a pending order takes money; any other sends it back."""
    match status:
        case OrderStatus.PENDING:
            return PaymentOutcome.APPLIED
        case (
            OrderStatus.PAID
            | OrderStatus.FULFILLED
            | OrderStatus.CANCELLED
            | OrderStatus.PARTIALLY_REFUNDED
            | OrderStatus.REFUNDED
        ):
            return PaymentOutcome.REFUND
        case _:
            assert_never(status)
