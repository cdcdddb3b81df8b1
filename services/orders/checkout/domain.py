"""What an order costs, and how two versions of a cart differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.orders.cart.domain import Cart, CatalogEntry
from services.orders.order.domain import OrderLine
from services.orders.shipping import ShippingMethod, shipping_price
from services.orders.tax.domain import SHIPPING, Taxable

__all__ = ["Details", "Price", "cart_differences", "price"]


@dataclass(frozen=True, slots=True)
class Details:
    """Who gets it, where and how."""

    email: str
    shipping_address: dict[str, Any]
    shipping_method: ShippingMethod
    note: str


@dataclass(frozen=True, slots=True)
class Price:
    """What an order costs, in minor units: net lines with their discounts, sending them, and tax on top of both."""

    lines: tuple[OrderLine, ...]
    shipping: int
    shipping_tax: int = 0

    @property
    def subtotal(self) -> int:
        """Before discounts."""
        return sum(line.line_total for line in self.lines)

    @property
    def discount(self) -> int:
        """Of all lines."""
        return sum(line.discount for line in self.lines)

    @property
    def tax(self) -> int:
        """Of lines and shipping."""
        return sum(line.tax for line in self.lines) + self.shipping_tax

    @property
    def total(self) -> int:
        """What the customer pays."""
        return self.subtotal - self.discount + self.shipping + self.tax

    def taxables(self) -> list[Taxable]:
        """Each line after its discount, then shipping."""
        lines = [Taxable(line.category, line.line_total - line.discount) for line in self.lines]
        return [*lines, Taxable(SHIPPING, self.shipping)]

    def with_taxes(self, taxes: Sequence[int]) -> "Price":
        """The same with the taxes on `taxables()`."""
        *of_lines, of_shipping = taxes
        lines = tuple(replace(line, tax=tax) for line, tax in zip(self.lines, of_lines, strict=True))
        return Price(lines, self.shipping, of_shipping)


def price(cart: Cart, details: Details, entries: dict[str, CatalogEntry], now: datetime) -> Price:
    """What the cart costs before tax. Raises `NotShippable`."""
    lines = tuple(
        OrderLine(
            item.variant_id,
            entries[item.variant_id].sku,
            item.title,
            item.quantity,
            item.unit_price,
            entries[item.variant_id].category,
            discount,
            product_id=entries[item.variant_id].product_id,
        )
        for item, discount in zip(cart.items, cart.discounts(now), strict=True)
    )
    goods = sum(line.line_total - line.discount for line in lines)
    country = details.shipping_address["country"]
    return Price(lines, shipping_price(details.shipping_method, country, goods, cart.currency))


def cart_differences(ordered: dict[str, int], now: dict[str, int]) -> list[dict[str, Any]]:
    """Variants whose quantity differs between an order and the cart it came from."""
    return [
        {"variant_id": variant, "ordered": ordered.get(variant, 0), "in_cart": now.get(variant, 0)}
        for variant in sorted({*ordered, *now})
        if ordered.get(variant, 0) != now.get(variant, 0)
    ]
