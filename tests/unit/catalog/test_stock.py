"""The rules for holds, and what the gRPC edge lets through."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.catalog.v1 import catalog_pb2
from holdfast.common.v1 import money_pb2
from reliability.errors import ValidationFailed
from reliability.ids import new_id
from services.catalog.products.domain import Price
from services.catalog.stock.domain import (
    Line,
    PriceMove,
    Shortage,
    Stock,
    price_moves,
    same_lines,
    shortages,
    unknown_variants,
)
from services.catalog.stock.schemas import CommitInput, HoldInput, parse

ONE, TWO = UUID(int=1), UUID(int=2)
CHEAP = Price(100, "USD")


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_line_is_short_when_less_is_available(available: int, wanted: int) -> None:
    """Exactly as much as is left can be had."""
    found = shortages([Line(ONE, wanted)], {ONE: Stock(ONE, "A", available, CHEAP)})
    assert found == ([] if wanted <= available else [Shortage(ONE, "A", wanted, available)])


@pytest.mark.parametrize("now", [Price(101, "USD"), Price(99, "USD"), Price(100, "EUR"), CHEAP])
def test_another_price_is_a_move(now: Price) -> None:
    """Up, down, or in another currency; what nobody has a price for may cost what it likes."""
    shelves = {ONE: Stock(ONE, "A", 1, now), TWO: Stock(TWO, "B", 1, now)}
    assert price_moves({ONE: CHEAP}, shelves) == ([] if now == CHEAP else [PriceMove(ONE, "A", CHEAP, now)])


def test_unknown_variants_are_named_by_their_place() -> None:
    """The pointer to a bad line needs its index."""
    lines = [Line(ONE, 1), Line(TWO, 1)]
    assert unknown_variants(lines, {ONE: Stock(ONE, "A", 1, CHEAP)}) == [1]


def test_the_order_of_lines_does_not_matter() -> None:
    """A retry may list the same cart in another order; another quantity is another cart."""
    lines = [Line(ONE, 1), Line(TWO, 2)]
    assert same_lines(lines, lines[::-1])
    assert not same_lines(lines, [Line(ONE, 2), Line(TWO, 1)])
    assert not same_lines(lines, lines[:1])


def test_every_bad_field_is_named_at_once() -> None:
    """A caller learns all of it in one answer."""
    request = catalog_pb2.HoldStockRequest(
        order_id="x", attempt=0, ttl_seconds=0, lines=[catalog_pb2.StockLine(variant_id="y", quantity=0)]
    )
    with pytest.raises(ValidationFailed) as caught:
        parse(HoldInput, request)
    assert {error["pointer"] for error in caught.value.extensions["errors"]} == {
        "/order_id",
        "/attempt",
        "/ttl_seconds",
        "/lines/0/variant_id",
        "/lines/0/quantity",
    }


def test_a_price_that_is_not_set_is_none() -> None:
    """proto3 answers with an empty message; a price of nothing is one, too."""
    free = catalog_pb2.StockLine(variant_id=str(ONE), quantity=1, price=money_pb2.Money(amount=0, currency="USD"))
    unset = catalog_pb2.StockLine(variant_id=str(TWO), quantity=1)
    request = catalog_pb2.HoldStockRequest(order_id=new_id(), attempt=1, ttl_seconds=1, lines=[free, unset])
    assert parse(HoldInput, request).prices() == {ONE: Price(0, "USD")}


def test_an_empty_customer_is_a_guest() -> None:
    """proto3 has no null."""
    request = catalog_pb2.CommitStockRequest(order_id=new_id(), attempt=1)
    assert parse(CommitInput, request).customer_id is None
