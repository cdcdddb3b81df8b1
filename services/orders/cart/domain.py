"""A cart and its arithmetic."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.orders.coupon.domain import Coupon, Refusal, discounts, refusal

__all__ = [
    "DEFAULT_CURRENCY",
    "MAX_QUANTITY",
    "Cart",
    "CartItem",
    "CatalogEntry",
    "Owner",
    "price_changes",
    "shortages",
]

DEFAULT_CURRENCY = "USD"
# Pieces of one variant, as the table's CHECK has it too.
MAX_QUANTITY = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cart: a customer's own, else the one that a guest's signed cookie names.

    A customer may hold a guest's cookie as well, from before signing in.
    """

    customer_id: str | None = None
    cart_id: str | None = None
    email: str = ""
    name: str = ""

    @property
    def scope(self) -> str:
        """Whose idempotency keys; empty for somebody we know nothing of."""
        return f"customer:{self.customer_id}" if self.customer_id else self.cart_id or ""


@dataclass(frozen=True, slots=True)
class CartItem:
    """Pieces of one variant, at the price last shown, in minor units."""

    id: str
    variant_id: str
    title: str
    quantity: int
    unit_price: int
    currency: str

    @property
    def line_total(self) -> int:
        """Minor units."""
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What the catalog says of a variant now."""

    variant_id: str
    sku: str
    title: str
    unit_price: int
    currency: str
    available: int
    category: str = ""
    product_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cart:
    """Items in the order they were added. `version` is another one after each change of them or of the coupon."""

    id: str
    items: tuple[CartItem, ...] = ()
    coupon: Coupon | None = None
    version: str = ""

    @property
    def subtotal(self) -> int:
        """Minor units."""
        return sum(item.line_total for item in self.items)

    @property
    def currency(self) -> str:
        """Of the items; the shop's own for an empty cart."""
        return self.items[0].currency if self.items else DEFAULT_CURRENCY

    def refusal(self, now: datetime) -> Refusal | None:
        """Why its coupon takes nothing off, as far as the cart can tell; None when it does, or there is none."""
        return refusal(self.coupon, self.subtotal, self.currency, now) if self.coupon else None

    def discounts(self, now: datetime) -> list[int]:
        """Minor units off each line."""
        if self.coupon is None or self.refusal(now):
            return [0] * len(self.items)
        return discounts(self.coupon, [item.line_total for item in self.items])

    def same_as(self, other: "Cart") -> bool:
        """Whether both would make the same order."""
        coupons = [cart.coupon.id if cart.coupon else None for cart in (self, other)]
        return (self.id, self.items, coupons[0]) == (other.id, other.items, coupons[1])

    def quantities(self) -> dict[str, int]:
        """Pieces by variant: what makes two versions of a cart the same."""
        return {item.variant_id: item.quantity for item in self.items}


def price_changes(cart: Cart, entries: dict[str, CatalogEntry]) -> list[dict[str, Any]]:
    """Lines whose price is not the one the customer was shown."""
    return [
        {
            "variant_id": item.variant_id,
            "title": item.title,
            "was": {"amount": item.unit_price, "currency": item.currency},
            "now": {"amount": entry.unit_price, "currency": entry.currency},
        }
        for item in cart.items
        if (entry := entries.get(item.variant_id))
        and (entry.unit_price, entry.currency) != (item.unit_price, item.currency)
    ]


def shortages(cart: Cart, entries: dict[str, CatalogEntry]) -> list[dict[str, Any]]:
    """Lines of which there is not enough, or nothing at all any more."""
    available = {variant: entry.available for variant, entry in entries.items()}
    return [
        {
            "variant_id": item.variant_id,
            "title": item.title,
            "requested": item.quantity,
            "available": available.get(item.variant_id, 0),
        }
        for item in cart.items
        if item.quantity > available.get(item.variant_id, 0)
    ]
