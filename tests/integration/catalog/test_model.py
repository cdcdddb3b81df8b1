"""Any sequence of calls on a few holds does what a model of ten lines says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reliability.errors import Problem
from services.catalog.stock.domain import HoldKey, Line
from tests.integration.catalog.support import TTL, Shop, new_key

VARIANTS, KEYS, ON_HAND = 2, 3, 5

Quantities = tuple[int, ...]
Call = tuple[str, int, Quantities]


@dataclass
class Model:
    """What should be true."""

    on_hand: list[int] = field(default_factory=lambda: [ON_HAND] * VARIANTS)
    holds: dict[int, tuple[str, Quantities]] = field(default_factory=dict)

    def held(self, variant: int) -> int:
        return sum(lines[variant] for state, lines in self.holds.values() if state == "held")

    def short(self, lines: Quantities) -> bool:
        return any(self.on_hand[v] - self.held(v) < lines[v] for v in range(VARIANTS))

    def hold(self, key: int, lines: Quantities) -> str:
        if key in self.holds:
            state, before = self.holds[key]
            return "hold_released" if state in {"released", "expired"} else "" if before == lines else "hold_mismatch"
        if self.short(lines):
            return "out_of_stock"
        self.holds[key] = ("held", lines)
        return ""

    def release(self, key: int, _lines: Quantities) -> str:
        state, before = self.holds.get(key, ("held", (0,) * VARIANTS))
        if state == "committed":
            return "hold_committed"
        self.holds[key] = ("released", before)
        return ""

    def expire(self, key: int, _lines: Quantities) -> str:
        if key in self.holds and self.holds[key][0] == "held":
            self.holds[key] = ("expired", self.holds[key][1])
        return ""

    def commit(self, key: int, _lines: Quantities) -> str:
        state, lines = self.holds.get(key, ("released", (0,) * VARIANTS))
        if state == "committed":
            return ""
        if state == "released" or (state == "expired" and self.short(lines)):
            self.holds[key] = ("released", lines)
            return "hold_lost"
        self.holds[key] = ("committed", lines)
        self.on_hand = [count - sold for count, sold in zip(self.on_hand, lines, strict=True)]
        return ""


calls = st.lists(
    st.tuples(
        st.sampled_from(["hold", "hold", "release", "expire", "commit"]),
        st.integers(0, KEYS - 1),
        st.tuples(*[st.integers(0, ON_HAND)] * VARIANTS).filter(any),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=calls)
async def test_the_machine_agrees_with_its_model(shop: Shop, sequence: list[Call]) -> None:
    """After every step: the same answer, the same stock, the same states; at the end the books balance."""
    variants = [await shop.variant(ON_HAND) for _ in range(VARIANTS)]
    keys = [new_key() for _ in range(KEYS)]
    model = Model()

    real: dict[str, Callable[[HoldKey, list[Line]], Any]] = {
        "hold": lambda key, lines: shop.stock.hold(key, lines, TTL),
        "release": lambda key, _: shop.stock.release(key),
        "expire": lambda key, _: shop.expire(key),
        "commit": lambda key, _: shop.stock.commit(key, None),
    }
    for name, key, quantities in sequence:
        lines = [Line(variant, quantity) for variant, quantity in zip(variants, quantities, strict=True) if quantity]
        code = ""
        try:
            await real[name](keys[key], lines)
        except Problem as problem:
            code = problem.code
        assert code == getattr(model, name)(key, quantities), (name, key)
        for index, variant in enumerate(variants):
            assert await shop.counts(variant) == (model.on_hand[index], model.held(index))
        for index, hold in enumerate(keys):
            assert await shop.state(hold) == model.holds.get(index, (None, ()))[0]
    await shop.assert_books_balance()
