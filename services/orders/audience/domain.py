"""What campaigns may go by."""

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Purchase"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """An order that was paid; amounts in minor units of `currency`.

    `refunds_known` counts what was heard of its refunds, so that of two figures the later one is known.
    """

    order_id: str
    customer_id: str | None
    email: str
    total: int
    currency: str
    paid_at: datetime
    product_ids: tuple[str, ...]
    refunded: int
    refunds_known: int
