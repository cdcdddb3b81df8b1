"""What each template wants to know."""

from typing import Annotated, Final, Literal

from babel import Locale, UnknownLocaleError
from babel.dates import get_timezone
from babel.numbers import list_currencies
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import Url

from services.notifications.schemas import Address, Line

__all__ = [
    "AbandonedCart",
    "AccountLink",
    "AccountNotice",
    "Appointment",
    "AppointmentCancelled",
    "AppointmentMoved",
    "AppointmentReminder",
    "BackInStock",
    "Data",
    "EmailChange",
    "EmailChanged",
    "MailFailed",
    "Money",
    "OrderConfirmation",
    "OrderShipped",
    "RefundIssued",
    "SessionEnded",
    "SubscriptionEnded",
    "SubscriptionPaid",
    "SubscriptionPaymentFailed",
    "TimedLink",
]

_CURRENCIES: Final = frozenset(list_currencies())
_REASONS: Final = {
    "out_of_stock": "We are sorry: something in your order sold out before your payment reached us, so we cannot "
    "send it. Your order is cancelled.",
    "not_payable": "Your payment reached us after this order had ended, so we are sending it back.",
    "order_cancelled": "Your order was cancelled, so we are sending the whole amount back.",
    "duplicate": "You were charged twice for the same order. We are sorry; here is the second payment back.",
}
_MAX_LINK: Final = 2000


def _check_currency(value: str) -> str:
    if value not in _CURRENCIES:
        message = "must be an ISO 4217 code"
        raise ValueError(message)
    return value


def _explain(reason: str) -> str:
    return _REASONS.get(reason, reason)


def _check_locale(value: str) -> str:
    try:
        return str(Locale.parse(value.replace("-", "_")))
    except (ValueError, UnknownLocaleError):
        message = "must be a locale we know, en-GB say"
        raise ValueError(message) from None


def _check_zone(value: str) -> str:
    try:
        get_timezone(value)
    except LookupError:
        message = "must be an IANA time zone, Europe/Paris say"
        raise ValueError(message) from None
    return value


def _check_link(value: str) -> str:
    if Url(value).scheme not in {"http", "https"} or any(character in value for character in " \"'<>"):
        message = "must be an http or https address"
        raise ValueError(message)
    return value


Link = Annotated[Line, AfterValidator(_check_link), Field(max_length=_MAX_LINK)]
Zone = Annotated[str, AfterValidator(_check_zone), Field(max_length=64)]
Minutes = Annotated[int, Field(ge=1, le=60 * 24 * 30)]


class Data(BaseModel):
    """What every template may be told. Fields it does not know are dropped: a caller may be newer than we are.

    `locale` says how money, dates and times are written; `timezone` is where the reader's clock is.
    """

    model_config = ConfigDict(frozen=True)

    customer_name: Line | None = None
    locale: Annotated[str, AfterValidator(_check_locale), Field(max_length=35)] = "en_US"
    timezone: Zone = "UTC"


class Money(BaseModel):
    """An amount in integer minor units."""

    model_config = ConfigDict(frozen=True)

    amount: int = Field(ge=0, le=10**15)
    currency: Annotated[str, AfterValidator(_check_currency)]


class OrderItem(BaseModel):
    """One line of an order, or of a cart."""

    title: Line
    quantity: int = Field(ge=1)
    unit_price: Money
    line_total: Money


class ShippedItem(BaseModel):
    """One line of a parcel."""

    title: Line
    quantity: int = Field(ge=1)


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


class OrderShipped(Data):
    """An order that was handed to a carrier."""

    order_number: Line = Field(min_length=1)
    items: list[ShippedItem] = Field(min_length=1, max_length=500)
    carrier: Line | None = None
    tracking_number: Line | None = None
    tracking_url: Link | None = None
    shipping_address: PostalAddress


class RefundIssued(Data):
    """Money on its way back. `reason` is a code we have a sentence for, or a sentence."""

    order_number: Line = Field(min_length=1)
    amount: Money
    reason: Annotated[Line, AfterValidator(_explain)] = Field(min_length=1)


class AccountLink(Data):
    """Something the customer does behind a link."""

    link: Link


class TimedLink(AccountLink):
    """A link that works for a while."""

    valid_minutes: Minutes


class EmailChange(TimedLink):
    """To the new address, which may not be the one who asked."""

    new_email: Address


class AccountNotice(AccountLink):
    """Something that happened to an account; the link is where the owner acts if it was not them."""

    happened_at: AwareDatetime


class SessionEnded(AccountNotice):
    """A refresh token was used a second time, so its whole family ended."""

    device: Line | None = None


class EmailChanged(Data):
    """To the old address: the last mail that goes there."""

    new_email: Line
    happened_at: AwareDatetime


class Appointment(Data):
    """A visit; times are shown on the clock of `timezone`."""

    service: Line = Field(min_length=1)
    staff: Line | None = None
    pet_name: Line | None = None
    note: Annotated[str, Field(max_length=2000)] | None = None
    starts_at: AwareDatetime
    ends_at: AwareDatetime

    @model_validator(mode="after")
    def _ends_later(self) -> "Appointment":
        if self.ends_at <= self.starts_at:
            message = "ends_at must be after starts_at"
            raise ValueError(message)
        return self


class AppointmentMoved(Appointment):
    """A visit at another time than before."""

    previous_starts_at: AwareDatetime


class AppointmentReminder(Appointment):
    """A visit that is `hours` away."""

    hours: int = Field(ge=1, le=24 * 14)


class AppointmentCancelled(Appointment):
    """A visit that will not take place."""

    by_shop: bool = False
    reason: Line | None = None


class AbandonedCart(Data):
    """A cart that was left; the link leads back to it."""

    items: list[OrderItem] = Field(min_length=1, max_length=500)
    subtotal: Money
    link: Link


class BackInStock(Data):
    """A product somebody waits for."""

    title: Line = Field(min_length=1)
    price: Money | None = None
    link: Link


class SubscriptionPaid(Data):
    """A period of a subscription that was paid, the first or another."""

    plan: Line = Field(min_length=1)
    amount: Money
    paid_until: AwareDatetime | None = None


class SubscriptionPaymentFailed(Data):
    """A renewal that the bank refused; without `next_attempt_at` nobody will try again."""

    plan: Line = Field(min_length=1)
    amount: Money
    next_attempt_at: AwareDatetime | None = None


class SubscriptionEnded(Data):
    """A subscription that is over."""

    plan: Line = Field(min_length=1)
    ended_at: AwareDatetime


class MailFailed(Data):
    """To staff: a mail that matters was not delivered."""

    template: Line
    recipient: Line
    state: Literal["failed", "unknown", "suppressed"]
    attempts: int = Field(ge=0)
    error: Annotated[str, Field(max_length=600)]
    email_id: Line
    flow: Line
