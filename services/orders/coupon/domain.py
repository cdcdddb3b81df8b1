"""A coupon and its rules. Code, kind and value never change: another offer is another coupon."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from services.orders.money import allocate, share

__all__ = ["Coupon", "CouponKind", "Refusal", "discounts", "normalise", "refusal"]

_BASIS_POINTS: Final = 10_000


class CouponKind(StrEnum):
    """What `value` means."""

    PERCENTAGE = "percentage"
    AMOUNT = "amount"


class Refusal(StrEnum):
    """Why a coupon takes nothing off a cart."""

    INACTIVE = "inactive"
    NOT_STARTED = "not_started"
    EXPIRED = "expired"
    OTHER_CURRENCY = "other_currency"
    MINIMUM_NOT_REACHED = "minimum_not_reached"
    USED_UP = "used_up"
    USED_BY_CUSTOMER = "used_by_customer"


@dataclass(frozen=True, slots=True)
class Coupon:
    """`value` in basis points of a percentage or minor units of an amount; `redeemed` counts live orders."""

    id: str
    code: str
    kind: CouponKind
    value: int
    currency: str
    minimum: int
    starts_at: datetime
    ends_at: datetime | None
    total_limit: int | None
    per_customer_limit: int | None
    active: bool
    redeemed: int = field(compare=False)


def normalise(code: str) -> str:
    """Codes are typed by people."""
    return code.strip().upper()


def discounts(coupon: Coupon, line_totals: Sequence[int]) -> list[int]:
    """What it takes off each line: a percentage half up per line, an amount in proportion, to the cent."""
    match coupon.kind:
        case CouponKind.PERCENTAGE:
            return [share(total, coupon.value, _BASIS_POINTS) for total in line_totals]
        case CouponKind.AMOUNT:
            return allocate(min(coupon.value, sum(line_totals)), line_totals)
        case _:
            assert_never(coupon.kind)


def refusal(coupon: Coupon, subtotal: int, currency: str, now: datetime, *, used: int = 0) -> Refusal | None:
    """Why it does not apply to a cart of `subtotal`, whose customer has `used` it so often; None when it does."""
    checks = {
        Refusal.INACTIVE: not coupon.active,
        Refusal.NOT_STARTED: now < coupon.starts_at,
        Refusal.EXPIRED: coupon.ends_at is not None and now >= coupon.ends_at,
        Refusal.OTHER_CURRENCY: currency != coupon.currency,
        Refusal.MINIMUM_NOT_REACHED: subtotal < coupon.minimum,
        Refusal.USED_UP: coupon.total_limit is not None and coupon.redeemed >= coupon.total_limit,
        Refusal.USED_BY_CUSTOMER: coupon.per_customer_limit is not None and used >= coupon.per_customer_limit,
    }
    return next((reason for reason, holds in checks.items() if holds), None)
