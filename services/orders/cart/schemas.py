"""Bodies of the cart routes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, Strict, StringConstraints

from services.orders.cart.domain import Cart, CartItem, CatalogEntry
from services.orders.errors import NotShippable
from services.orders.shipping import HOME, ShippingMethod, shipping_price

__all__ = ["AddItem", "CartCheck", "CartQuery", "CartView", "ChangeItem", "MoneyView", "SetCoupon"]

Quantity = Annotated[int, Strict(), Field(ge=1, le=100)]


class MoneyView(BaseModel):
    """Minor units and ISO 4217."""

    amount: int
    currency: str


class AddItem(BaseModel):
    """Adds to what is in the cart of the same variant."""

    variant_id: UUID
    quantity: Quantity


class ChangeItem(BaseModel):
    """Sets the quantity."""

    quantity: Quantity


class SetCoupon(BaseModel):
    """Puts a coupon into the cart, in place of the one there was."""

    code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class CartQuery(BaseModel):
    """Where the goods shall go, for the shipping methods."""

    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = HOME


@dataclass(frozen=True, slots=True)
class CartCheck:
    """What catalog says of a cart's lines now, and how that differs from what the customer was last shown."""

    entries: dict[str, CatalogEntry]
    changes: list[dict[str, Any]]


class CartItemView(BaseModel):
    """One line. `available` is null where nobody asked the catalog."""

    id: str
    variant_id: str
    title: str
    quantity: int
    unit_price: MoneyView
    line_total: MoneyView
    discount: MoneyView
    available: int | None


class CartCouponView(BaseModel):
    """The coupon in the cart; `reason` says why it takes nothing off."""

    code: str
    applied: bool
    reason: str | None


class ShippingMethodView(BaseModel):
    """What sending the cart costs, before tax."""

    method: str
    price: MoneyView


class CartView(BaseModel):
    """The cart as the customer sees it. `id` is null until something is in it.

    `changes` lists prices that moved since the cart was last shown, and lines of which there is not enough.
    """

    id: str | None
    items: list[CartItemView]
    subtotal: MoneyView
    discount: MoneyView
    total: MoneyView
    currency: str
    coupon: CartCouponView | None
    shipping_methods: list[ShippingMethodView]
    changes: list[dict[str, Any]]

    @classmethod
    def of(cls, cart: Cart | None, check: CartCheck | None = None, *, country: str = HOME) -> "CartView":
        """The view of a cart, or of none."""
        cart, now = cart or Cart(""), datetime.now(UTC)
        off, reason = cart.discounts(now), cart.refusal(now)

        def money(amount: int) -> MoneyView:
            return MoneyView(amount=amount, currency=cart.currency)

        def available(item: CartItem) -> int | None:
            if check is None:
                return None
            entry = check.entries.get(item.variant_id)
            return max(0, entry.available) if entry else 0

        return cls(
            id=cart.id or None,
            items=[
                CartItemView(
                    id=item.id,
                    variant_id=item.variant_id,
                    title=item.title,
                    quantity=item.quantity,
                    unit_price=money(item.unit_price),
                    line_total=money(item.line_total),
                    discount=money(less),
                    available=available(item),
                )
                for item, less in zip(cart.items, off, strict=True)
            ],
            subtotal=money(cart.subtotal),
            discount=money(sum(off)),
            total=money(cart.subtotal - sum(off)),
            currency=cart.currency,
            coupon=CartCouponView(code=cart.coupon.code, applied=reason is None, reason=reason)
            if cart.coupon
            else None,
            shipping_methods=_shipping_methods(cart, country, cart.subtotal - sum(off)),
            changes=check.changes if check else [],
        )


def _shipping_methods(cart: Cart, country: str, goods: int) -> list[ShippingMethodView]:
    """None where there is no tariff; checkout says why."""
    try:
        prices = {method: shipping_price(method, country, goods, cart.currency) for method in ShippingMethod}
    except NotShippable:
        return []
    return [
        ShippingMethodView(method=method, price=MoneyView(amount=amount, currency=cart.currency))
        for method, amount in prices.items()
    ]
