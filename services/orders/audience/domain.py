"""What campaigns may go by."""

from dataclasses import dataclass

__all__ = ["Refunded"]


@dataclass(frozen=True, slots=True)
class Refunded:
    """What of a paid order went back so far, in minor units of `currency`.

    `refunds_known` counts what was heard of its refunds, so that of two figures the later one is known.
    """

    order_id: str
    currency: str
    refunded: int
    refunds_known: int
