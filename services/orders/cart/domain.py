"""A cart and its arithmetic."""

from dataclasses import dataclass

__all__ = ["DEFAULT_CURRENCY", "MAX_QUANTITY", "Cart", "CartItem", "CatalogEntry", "Owner"]

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
