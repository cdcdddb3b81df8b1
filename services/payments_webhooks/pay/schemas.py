"""What customers send and get."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.payments_webhooks.intent.domain import Payment

__all__ = ["CardPage", "CardView", "IntentView", "MoneyView", "OpenIntent", "OpenSession", "PageQuery", "SessionView"]

_Id = Annotated[str, Field(min_length=1, max_length=64)]
# A path of ours, never another site's: `//host` would be one.
_Path = Annotated[
    str, Field(max_length=500, pattern=r"^/([A-Za-z0-9._~!$&'()*+,;=:@%?-][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$")
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OpenIntent(_Request):
    """Pay here, with Stripe.js."""

    order_id: _Id
    save_card: bool = False
    payment_method_id: _Id | None = None


class OpenSession(_Request):
    """Pay on Stripe's page."""

    order_id: _Id
    return_path: _Path = "/"


class PageQuery(BaseModel):
    """Which part of a list."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=100)


class MoneyView(BaseModel):
    """Minor units and ISO 4217."""

    amount: int
    currency: str


class IntentView(BaseModel):
    """A payment that the shop's page confirms."""

    id: str
    order_id: str
    payment_intent_id: str | None
    client_secret: str | None
    status: str
    amount: MoneyView

    @classmethod
    def of(cls, payment: Payment) -> "IntentView":
        """As its owner sees it."""
        return cls(
            id=payment.id,
            order_id=payment.order_id,
            payment_intent_id=payment.payment_intent_id,
            client_secret=payment.client_secret,
            status=payment.state,
            amount=MoneyView(amount=payment.amount, currency=payment.currency),
        )


class SessionView(BaseModel):
    """A payment on Stripe's page."""

    id: str
    order_id: str
    url: str
    status: str
    amount: MoneyView

    @classmethod
    def of(cls, payment: Payment) -> "SessionView":
        """As its owner sees it."""
        return cls(
            id=payment.id,
            order_id=payment.order_id,
            url=payment.session_url or "",
            status=payment.state,
            amount=MoneyView(amount=payment.amount, currency=payment.currency),
        )


class CardView(BaseModel):
    """A saved card: enough to know it by, nothing to pay with."""

    id: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class CardPage(BaseModel):
    """A page of saved cards."""

    items: list[CardView]
    next_cursor: str | None
