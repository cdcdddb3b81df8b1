"""Arithmetic on minor units. Rates are parts of a whole, and every rounding is half up: see docs/money.md."""

from collections.abc import Sequence

__all__ = ["allocate", "share"]


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
