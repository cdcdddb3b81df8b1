"""Bodies of the routes about a customer's own orders."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from services.orders.cart.domain import DEFAULT_CURRENCY
from services.orders.cart.schemas import CartView, MoneyView
from services.orders.checkout.schemas import CheckoutItem, PaymentView
from services.orders.history.domain import Spending
from services.orders.order.domain import Event, Order, OrderStatus

__all__ = ["OrderPage", "OrderView", "ReorderView", "SpendingQuery", "SpendingView", "SummaryView"]


class SummaryView(BaseModel):
    """An order in a list."""

    id: str
    order_number: str
    status: str
    created_at: datetime
    items: list[CheckoutItem]
    total: MoneyView

    @classmethod
    def of(cls, order: Order) -> "SummaryView":
        """The view of an order."""
        return cls(
            id=order.id,
            order_number=order.number,
            status=order.status,
            created_at=order.created_at,
            items=[CheckoutItem.of(line, order.currency) for line in order.lines],
            total=MoneyView(amount=order.total, currency=order.currency),
        )


class OrderPage(BaseModel):
    """Newest first."""

    items: list[SummaryView]
    next_cursor: str | None


class EventView(BaseModel):
    """A line of the timeline: what the order became, or stayed, why, and by whose hand."""

    status: str
    reason: str
    actor: str
    correlation_id: str
    at: datetime

    @classmethod
    def of(cls, event: Event) -> "EventView":
        """Customers learn that staff did it, not who."""
        actor = event.actor.partition(":")[0]
        return cls(
            status=event.status, reason=event.reason, actor=actor, correlation_id=event.correlation_id, at=event.at
        )


class OrderView(SummaryView):
    """An order with everything its customer may know. `payment` is there while it can be paid."""

    email: str
    shipping_address: dict[str, str | None]
    shipping_method: str
    note: str
    subtotal: MoneyView
    discount: MoneyView
    shipping: MoneyView
    tax: MoneyView
    refunded: MoneyView
    hold_expires_at: datetime | None
    payment: PaymentView | None
    timeline: list[EventView]

    @classmethod
    def detailed(cls, order: Order, refunded: int, timeline: Sequence[Event]) -> "OrderView":
        """The view of an order and what happened to it."""

        def money(amount: int) -> MoneyView:
            return MoneyView(amount=amount, currency=order.currency)

        pending = order.status is OrderStatus.PENDING
        return cls(
            **SummaryView.of(order).model_dump(),
            email=order.email,
            shipping_address=order.shipping_address,
            shipping_method=order.shipping_method,
            note=order.note,
            subtotal=money(order.subtotal),
            discount=money(order.discount),
            shipping=money(order.shipping),
            tax=money(order.tax),
            refunded=money(refunded),
            hold_expires_at=order.hold_expires_at if pending else None,
            payment=PaymentView(payment_intent_id=order.payment_intent_id, client_secret=order.client_secret)
            if pending
            else None,
            timeline=[EventView.of(event) for event in timeline],
        )


class MissingView(BaseModel):
    """A line that could not be ordered again."""

    variant_id: str
    title: str
    reason: str


class ReorderView(BaseModel):
    """The cart with the order's lines in it at today's prices, and the lines that are no longer sold."""

    cart: CartView
    unavailable: list[MissingView]


class SpendingQuery(BaseModel):
    """Money of different currencies is never added up."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = DEFAULT_CURRENCY


class MonthView(BaseModel):
    """`2026-11`, in UTC by the time of payment."""

    month: str
    spent: MoneyView
    orders: int


class CategoryView(BaseModel):
    """Goods of one category after discounts, without shipping and tax."""

    category: str
    spent: MoneyView


class SpendingView(BaseModel):
    """What was spent, less what went back; orders that went back whole do not count."""

    lifetime: MoneyView
    average: MoneyView
    orders: int
    by_month: list[MonthView]
    by_category: list[CategoryView]

    @classmethod
    def of(cls, spending: Spending) -> "SpendingView":
        """The view of what was spent."""

        def money(amount: int) -> MoneyView:
            return MoneyView(amount=amount, currency=spending.currency)

        by_size = sorted(spending.by_category.items(), key=lambda item: (-item[1], item[0]))
        return cls(
            lifetime=money(spending.lifetime),
            average=money(spending.average),
            orders=spending.orders,
            by_month=[
                MonthView(month=month.month, spent=money(month.spent), orders=month.orders)
                for month in spending.by_month
            ],
            by_category=[CategoryView(category=category, spent=money(amount)) for category, amount in by_size],
        )
