"""Arithmetic on minor units. Rates are parts of a whole, and every rounding is half up: see docs/money.md."""

from collections.abc import Sequence
from typing import Final

__all__ = ["allocate", "share", "written"]

# ISO 4217, list one: every other currency has two digits of minor units.
_NO_DIGITS: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THREE_DIGITS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})


def written(amount: int, currency: str) -> str:
    """`12.99 USD`, `1299 JPY`: for the timeline and for refusals, which are one line of English; mails have locales."""
    digits = 0 if currency in _NO_DIGITS else 3 if currency in _THREE_DIGITS else 2
    whole, rest = divmod(amount, 10**digits)
    return f"{whole}.{rest:0{digits}} {currency}" if digits else f"{amount} {currency}"


def share(amount: int, part: int, whole: int) -> int:
    """`amount * part / whole`, half up; nothing is negative."""
    return (2 * amount * part + whole) // (2 * whole)


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in parts that follow `weights` and add up to it; what rounding leaves goes to the largest remainders."""
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    parts = [amount * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(amount * weights[place] % whole), place))
    for place in by_remainder[: amount - sum(parts)]:
        parts[place] += 1
    return parts
