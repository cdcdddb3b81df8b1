"""Bodies of the checkout routes."""

import unicodedata
from datetime import datetime
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, EmailStr, Field, StringConstraints

from services.orders.cart.schemas import MoneyView
from services.orders.order.domain import Order, OrderLine
from services.orders.shipping import ShippingMethod

__all__ = ["CheckoutView", "PlaceOrder", "TokenQuery"]


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        message = "must be one line without control characters"
        raise ValueError(message)
    return value


def _ascii_address(value: str) -> str:
    try:
        found = validate_email(value, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return found.ascii_email or found.normalized


# What notifications could not write is refused here, while the customer can still correct it: not when it is paid.
OneLine = AfterValidator(_one_line)
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), OneLine]
Optional = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), OneLine]
PostalCode = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20), OneLine]
MailAddress = Annotated[EmailStr, AfterValidator(_ascii_address), Field(max_length=254)]


class Address(BaseModel):
    """Where it goes. `country` is ISO 3166-1 alpha-2."""

    name: Line
    line1: Line
    line2: Optional | None = None
    city: Line
    postal_code: PostalCode
    region: Optional | None = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class PlaceOrder(BaseModel):
    """Orders what is in the cart."""

    email: MailAddress
    shipping_address: Address
    shipping_method: ShippingMethod = ShippingMethod.STANDARD
    note: Annotated[str, StringConstraints(max_length=1000)] | None = None


class TokenQuery(BaseModel):
    """The checkout token proves that the asker placed the order."""

    token: str = ""


class CheckoutItem(BaseModel):
    """One line, as sold."""

    variant_id: str
    sku: str
    title: str
    quantity: int
    unit_price: MoneyView
    line_total: MoneyView
    discount: MoneyView
    tax: MoneyView

    @classmethod
    def of(cls, line: OrderLine, currency: str) -> "CheckoutItem":
        """The view of a line."""
        return cls(
            variant_id=line.variant_id,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=MoneyView(amount=line.unit_price, currency=currency),
            line_total=MoneyView(amount=line.line_total, currency=currency),
            discount=MoneyView(amount=line.discount, currency=currency),
            tax=MoneyView(amount=line.tax, currency=currency),
        )


class PaymentView(BaseModel):
    """What Stripe.js needs."""

    provider: str = "stripe"
    payment_intent_id: str | None
    client_secret: str | None


class CheckoutView(BaseModel):
    """A checkout; `id` and `order_id` are the same."""

    id: str
    order_id: str
    order_number: str
    checkout_token: str
    status: str
    items: list[CheckoutItem]
    subtotal: MoneyView
    discount: MoneyView
    shipping: MoneyView
    tax: MoneyView
    total: MoneyView
    coupon: str | None
    hold_expires_at: datetime
    payment: PaymentView

    @classmethod
    def of(cls, order: Order, token: str) -> "CheckoutView":
        """The view of an order."""

        def money(amount: int) -> MoneyView:
            return MoneyView(amount=amount, currency=order.currency)

        return cls(
            id=order.id,
            order_id=order.id,
            order_number=order.number,
            checkout_token=token,
            status=order.status,
            items=[CheckoutItem.of(line, order.currency) for line in order.lines],
            subtotal=money(order.subtotal),
            discount=money(order.discount),
            shipping=money(order.shipping),
            tax=money(order.tax),
            total=money(order.total),
            coupon=order.coupon_code,
            hold_expires_at=order.hold_expires_at,
            payment=PaymentView(payment_intent_id=order.payment_intent_id, client_secret=order.client_secret),
        )
