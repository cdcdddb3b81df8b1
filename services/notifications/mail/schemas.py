"""What each template wants to know."""

from typing import Annotated, Final

from babel.numbers import list_currencies
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.notifications.schemas import Line

__all__ = ["Data", "Money", "OrderConfirmation", "RefundIssued"]

_CURRENCIES: Final = frozenset(list_currencies())
_REASONS: Final = {
    "out_of_stock": "We are sorry: something in your order sold out before your payment reached us, so we cannot "
    "send it. Your order is cancelled.",
    "not_payable": "Your payment reached us after this order had ended, so we are sending it back.",
    "order_cancelled": "Your order was cancelled, so we are sending the whole amount back.",
    "duplicate": "You were charged twice for the same order. We are sorry; here is the second payment back.",
}


def _check_currency(value: str) -> str:
    if value not in _CURRENCIES:
        message = "must be an ISO 4217 code"
        raise ValueError(message)
    return value


def _explain(reason: str) -> str:
    return _REASONS.get(reason, reason)


class Data(BaseModel):
    """What every template may be told. Fields it does not know are dropped: a caller may be newer than we are."""

    model_config = ConfigDict(frozen=True)

    customer_name: Line | None = None


class Money(BaseModel):
    """An amount in integer minor units."""

    model_config = ConfigDict(frozen=True)

    amount: int = Field(ge=0, le=10**15)
    currency: Annotated[str, AfterValidator(_check_currency)]


class OrderItem(BaseModel):
    """One line of an order."""

    title: Line
    quantity: int = Field(ge=1)
    unit_price: Money
    line_total: Money


class PostalAddress(BaseModel):
    """Where a parcel goes."""

    name: Line
    line1: Line
    line2: Line | None = None
    city: Line
    postal_code: Line
    region: Line | None = None
    country: Line

    @property
    def lines(self) -> list[str]:
        """As it is written on a parcel."""
        # Where addresses name a region, the postal code comes last; elsewhere it comes first.
        town = f"{self.city}, {self.region} {self.postal_code}" if self.region else f"{self.postal_code} {self.city}"
        return [line for line in (self.name, self.line1, self.line2, town, self.country) if line]


class OrderConfirmation(Data):
    """An order that is paid."""

    order_number: Line = Field(min_length=1)
    items: list[OrderItem] = Field(min_length=1, max_length=500)
    subtotal: Money
    discount: Money
    shipping: Money
    tax: Money
    total: Money
    shipping_address: PostalAddress


class RefundIssued(Data):
    """Money on its way back. `reason` is a code we have a sentence for, or a sentence."""

    order_number: Line = Field(min_length=1)
    amount: Money
    reason: Annotated[Line, AfterValidator(_explain)] = Field(min_length=1)
