"""A cart and its arithmetic."""

from dataclasses import dataclass

__all__ = ["DEFAULT_CURRENCY", "Cart", "CartItem", "CatalogEntry"]

DEFAULT_CURRENCY = "USD"


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


@dataclass(frozen=True, slots=True)
class Cart:
    """Items in the order they were added."""

    id: str
    items: tuple[CartItem, ...] = ()

    @property
    def subtotal(self) -> int:
        """Minor units."""
        return sum(item.line_total for item in self.items)

    @property
    def currency(self) -> str:
        """Of the items; the shop's own for an empty cart."""
        return self.items[0].currency if self.items else DEFAULT_CURRENCY

    def quantities(self) -> dict[str, int]:
        """Pieces by variant: what makes two versions of a cart the same."""
        return {item.variant_id: item.quantity for item in self.items}
