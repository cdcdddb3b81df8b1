"""The port to whoever knows tax."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.orders.money import share

__all__ = ["SHIPPING", "Destination", "TaxProvider", "TaxRate", "Taxable"]

# The category of what is paid for sending.
SHIPPING: Final = "shipping"
_PPM: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where goods change hands."""

    country: str
    region: str
    postal_code: str

    @classmethod
    def of(cls, address: dict[str, Any]) -> "Destination":
        """Of a shipping address."""
        return cls(address["country"], (address["region"] or "").strip().upper(), address["postal_code"])


@dataclass(frozen=True, slots=True)
class Taxable:
    """Something to be taxed: net minor units, after discounts."""

    category: str
    amount: int


class TaxProvider(Protocol):
    """The rate table of this service, or somebody's API: it is asked outside any transaction."""

    async def taxes(self, destination: Destination, items: Sequence[Taxable], currency: str) -> list[int]:
        """The tax on each item, in minor units. Raises `UnknownRegion` when the destination does not say enough."""
        ...


@dataclass(frozen=True, slots=True)
class TaxRate:
    """Parts per million of the net price."""

    rate: int
    shipping_taxed: bool

    def on(self, item: Taxable) -> int:
        """The tax on one item, half up."""
        if item.category == SHIPPING and not self.shipping_taxed:
            return 0
        return share(item.amount, self.rate, _PPM)
