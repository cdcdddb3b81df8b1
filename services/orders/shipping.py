"""How an order is sent, and what that costs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.orders.errors import NotShippable

__all__ = ["HOME", "ShippingMethod", "shipping_price"]

HOME: Final = "US"
_CURRENCY: Final = "USD"


class ShippingMethod(StrEnum):
    """How it is sent."""

    STANDARD = "standard"
    EXPRESS = "express"


@dataclass(frozen=True, slots=True)
class _Tariff:
    """Minor units; nothing from `free_from` of goods, after discounts."""

    price: int
    free_from: int | None = None


_DOMESTIC: Final = {ShippingMethod.STANDARD: _Tariff(499, free_from=5000), ShippingMethod.EXPRESS: _Tariff(1299)}
_ABROAD: Final = {ShippingMethod.STANDARD: _Tariff(1499, free_from=15000), ShippingMethod.EXPRESS: _Tariff(3499)}


def shipping_price(method: ShippingMethod, country: str, goods: int, currency: str) -> int:
    """Minor units for sending `goods` worth of goods to a country. Raises `NotShippable` without a tariff."""
    if currency != _CURRENCY:
        raise NotShippable(f"There is no shipping tariff in {currency}.")
    tariff = (_DOMESTIC if country == HOME else _ABROAD)[method]
    free = tariff.free_from is not None and goods >= tariff.free_from
    return 0 if free else tariff.price
