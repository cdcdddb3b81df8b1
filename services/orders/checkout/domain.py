"""What an order costs, and how two versions of a cart differ."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from services.orders.cart.domain import Cart, CatalogEntry
from services.orders.order.domain import OrderLine

__all__ = ["Details", "Price", "ShippingMethod", "cart_differences", "price", "price_changes", "shortages"]


class ShippingMethod(StrEnum):
    """How it is sent."""

    STANDARD = "standard"
    EXPRESS = "express"


_FREE_STANDARD_FROM = 5000


@dataclass(frozen=True, slots=True)
class Details:
    """Who gets it, where and how."""

    email: str
    shipping_address: dict[str, Any]
    shipping_method: ShippingMethod
    note: str


@dataclass(frozen=True, slots=True)
class Price:
    """Minor units. Prices include tax, so `tax` is what is added on top: nothing."""

    subtotal: int
    discount: int
    shipping: int
    tax: int

    @property
    def total(self) -> int:
        """What the customer pays."""
        return self.subtotal - self.discount + self.shipping + self.tax


def price(lines: tuple[OrderLine, ...], method: ShippingMethod) -> Price:
    """Standard shipping is free from 50.00."""
    subtotal = sum(line.line_total for line in lines)
    match method:
        case ShippingMethod.STANDARD:
            shipping = 0 if subtotal >= _FREE_STANDARD_FROM else 499
        case ShippingMethod.EXPRESS:
            shipping = 1299
        case _:
            assert_never(method)
    return Price(subtotal, discount=0, shipping=shipping, tax=0)


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


def cart_differences(ordered: dict[str, int], now: dict[str, int]) -> list[dict[str, Any]]:
    """Variants whose quantity differs between an order and the cart it came from."""
    return [
        {"variant_id": variant, "ordered": ordered.get(variant, 0), "in_cart": now.get(variant, 0)}
        for variant in sorted({*ordered, *now})
        if ordered.get(variant, 0) != now.get(variant, 0)
    ]
