"""What a customer's orders add up to."""

from dataclasses import dataclass

__all__ = ["Month", "Spending"]


@dataclass(frozen=True, slots=True)
class Month:
    """What was spent in a calendar month, UTC."""

    month: str
    spent: int
    orders: int


@dataclass(frozen=True, slots=True)
class Spending:
    """Minor units of `currency`. Money that went back is not spent; an order that went back whole does not count."""

    currency: str
    lifetime: int
    orders: int
    by_month: tuple[Month, ...]
    by_category: dict[str, int]

    @property
    def average(self) -> int:
        """Per order, half up."""
        return (2 * self.lifetime + self.orders) // (2 * self.orders) if self.orders else 0
