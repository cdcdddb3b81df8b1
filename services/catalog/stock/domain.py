"""Holds on stock, and the rules for making them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.catalog.products.domain import Price


class HoldState(StrEnum):
    """held becomes any other; expired becomes released, or committed when the stock is still there; these two stay."""

    HELD = "held"
    EXPIRED = "expired"
    COMMITTED = "committed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class HoldKey:
    """The name of a hold: the n-th of its order."""

    order_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as it stands."""

    state: HoldState
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """A number of pieces of one variant."""

    variant_id: UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class Stock:
    """What can be sold of a variant, and for how much."""

    variant_id: UUID
    sku: str
    available: int
    price: Price


@dataclass(frozen=True, slots=True)
class Shortage:
    """A line that cannot be served whole."""

    variant_id: UUID
    sku: str
    requested: int
    available: int


@dataclass(frozen=True, slots=True)
class PriceMove:
    """A line that is being sold at another price than today's."""

    variant_id: UUID
    sku: str
    was: Price
    now: Price


def unknown_variants(lines: Sequence[Line], stock: Mapping[UUID, Stock]) -> list[int]:
    """The places in `lines` of variants that do not exist."""
    return [place for place, line in enumerate(lines) if line.variant_id not in stock]


def shortages(lines: Iterable[Line], stock: Mapping[UUID, Stock]) -> list[Shortage]:
    """The lines there is not enough stock for; every variant must be in `stock`."""
    found = ((line, stock[line.variant_id]) for line in lines)
    return [
        Shortage(line.variant_id, shelf.sku, line.quantity, shelf.available)
        for line, shelf in found
        if shelf.available < line.quantity
    ]


def price_moves(prices: Mapping[UUID, Price], stock: Mapping[UUID, Stock]) -> list[PriceMove]:
    """The variants that do not cost what `prices` has for them; all must be in `stock`."""
    found = ((price, stock[variant_id]) for variant_id, price in prices.items())
    return [
        PriceMove(shelf.variant_id, shelf.sku, price, shelf.price) for price, shelf in found if shelf.price != price
    ]


def same_lines(some: Iterable[Line], others: Iterable[Line]) -> bool:
    """Whether both ask for the same pieces, in whatever order."""
    return set(some) == set(others)
