"""Bodies of the cart routes."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, Strict

from services.orders.cart.domain import Cart

__all__ = ["AddItem", "CartView", "ChangeItem", "MoneyView"]

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


class CartItemView(BaseModel):
    """One line."""

    id: str
    variant_id: str
    title: str
    quantity: int
    unit_price: MoneyView
    line_total: MoneyView


class CartView(BaseModel):
    """The cart as the customer sees it. `id` is null until something is in it."""

    id: str | None
    items: list[CartItemView]
    subtotal: MoneyView
    discount: MoneyView
    currency: str

    @classmethod
    def of(cls, cart: Cart | None) -> "CartView":
        """The view of a cart, or of none."""
        cart = cart or Cart("")

        def money(amount: int) -> MoneyView:
            return MoneyView(amount=amount, currency=cart.currency)

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
                )
                for item in cart.items
            ],
            subtotal=money(cart.subtotal),
            discount=money(0),
            currency=cart.currency,
        )
