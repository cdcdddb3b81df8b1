"""What can be wrong with a hold.

Problem
├── Conflict 409 ── OutOfStock, PriceChanged, HoldMismatch, HoldReleased, HoldCommitted, HoldLost, OrderCommitted
├── Unprocessable 422 ── UnknownVariant
└── NotFound 404 ── UnknownHold
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from reliability.errors import Conflict, NotFound, Unprocessable
from services.catalog.stock.domain import Line, PriceMove, Shortage

__all__ = [
    "HoldCommitted",
    "HoldLost",
    "HoldMismatch",
    "HoldReleased",
    "OrderCommitted",
    "OutOfStock",
    "PriceChanged",
    "UnknownHold",
    "UnknownVariant",
]


def _changes(shortages: Iterable[Shortage]) -> list[dict[str, str | int]]:
    return [
        {
            "variant_id": str(shortage.variant_id),
            "sku": shortage.sku,
            "requested": shortage.requested,
            "available": shortage.available,
        }
        for shortage in shortages
    ]


class OutOfStock(Conflict):
    """Not enough for every line; `changes` lists the lines there is too little for."""

    code, title = "out_of_stock", "There is not enough stock"

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        short = ", ".join(f"{shortage.sku}: {shortage.available} left" for shortage in shortages)
        super().__init__(f"There is not enough stock ({short}).", changes=_changes(shortages))


class PriceChanged(Conflict):
    """Something costs more or less than it is being sold for; `changes` lists it."""

    code, title = "price_changed", "A price has changed"

    def __init__(self, moves: Sequence[PriceMove]) -> None:
        skus = ", ".join(move.sku for move in moves)
        changes = [
            {"variant_id": str(move.variant_id), "sku": move.sku, "was": asdict(move.was), "now": asdict(move.now)}
            for move in moves
        ]
        super().__init__(f"The price has changed ({skus}).", changes=changes)


class HoldMismatch(Conflict):
    """The name belongs to a hold of other lines."""

    code, title = "hold_mismatch", "This attempt of the order holds other lines; use the next attempt"


class HoldReleased(Conflict):
    """The stock was given back, and a late call does not take it again."""

    code, title = "hold_released", "This hold was released; use the next attempt"


class HoldCommitted(Conflict):
    """The stock has left the warehouse."""

    code, title = "hold_committed", "This hold was committed; its stock is sold"


class HoldLost(Conflict):
    """The hold ended and cannot be had again; `changes` lists what is missing, as far as known."""

    code, title = "hold_lost", "The hold ended and its stock is gone"

    def __init__(self, detail: str, shortages: Sequence[Shortage] = ()) -> None:
        super().__init__(detail, changes=_changes(shortages))


class OrderCommitted(Conflict):
    """Another attempt of the same order was committed before."""

    code, title = "order_committed", "The stock of this order was already taken by another attempt"


class UnknownVariant(Unprocessable):
    """Lines that name a variant that does not exist."""

    code, title = "unknown_variant", "There is no such variant"

    def __init__(self, lines: Sequence[Line], places: Sequence[int]) -> None:
        ids = [str(lines[place].variant_id) for place in places]
        super().__init__(
            f"There is no variant {', '.join(ids)}.",
            variant_ids=ids,
            errors=[{"pointer": f"/lines/{place}/variant_id", "message": "no such variant"} for place in places],
        )


class UnknownHold(NotFound):
    """No hold was ever made under this name."""

    code, title = "unknown_hold", "There is no such hold"
