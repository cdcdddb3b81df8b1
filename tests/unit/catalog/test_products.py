"""Cursors and the tree of categories."""

import contextlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.errors import ValidationFailed
from services.catalog.products import cursor
from services.catalog.products.domain import CategoryRow, Position, Sort, trail, tree

_KEYS: dict[Sort, st.SearchStrategy[int | str | None]] = {
    Sort.NEWEST: st.none(),
    Sort.PRICE: st.integers(0, 2**63 - 1),
    Sort.PRICE_DOWN: st.integers(0, 2**63 - 1),
    Sort.TITLE: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    Sort.TITLE_DOWN: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
}


@given(st.data())
def test_a_cursor_comes_back_as_it_went(data: st.DataObject) -> None:
    """Every position of every sort, in characters a URL carries unchanged."""
    sort = data.draw(st.sampled_from(Sort))
    position = Position(data.draw(_KEYS[sort]), data.draw(st.uuids()))
    text = cursor.encode(sort, position)
    assert text.isascii()
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert cursor.decode(sort, text) == position


@given(st.sampled_from(Sort), st.text())
def test_any_text_is_a_cursor_or_a_problem(sort: Sort, text: str) -> None:
    """Nothing a client sends is an error of ours."""
    with contextlib.suppress(ValidationFailed):
        cursor.decode(sort, text)


@given(st.data())
def test_a_cursor_serves_its_own_sort_only(data: st.DataObject) -> None:
    """A place in one order means nothing in another."""
    sort = data.draw(st.sampled_from(Sort))
    other = data.draw(st.sampled_from([one for one in Sort if one is not sort]))
    text = cursor.encode(sort, Position(data.draw(_KEYS[sort]), data.draw(st.uuids())))
    with pytest.raises(ValidationFailed):
        cursor.decode(other, text)


def _row(number: int, parent: int | None, products: int) -> CategoryRow:
    return CategoryRow(
        UUID(int=number), f"c-{number}", f"C {number}", "", None if parent is None else UUID(int=parent), products
    )


def test_the_tree_counts_what_is_below() -> None:
    """Three levels, given in no particular order of depth."""
    roots = tree([_row(3, 2, 5), _row(1, None, 1), _row(2, 1, 0), _row(4, None, 7)])
    assert [(root.slug, root.products) for root in roots] == [("c-1", 6), ("c-4", 7)]
    assert [category.slug for category in trail(roots, "c-3")] == ["c-1", "c-2", "c-3"]
    assert trail(roots, "c-9") == ()
