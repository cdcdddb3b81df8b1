"""Equal requests have equal fingerprints however they were written; different ones do not."""

import copy
import datetime as dt
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from reliability.fingerprint import fingerprint

texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


class Kind(StrEnum):
    CARD = "card"


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


class Asked(BaseModel):
    sku: str
    quantity: int


def rewritten(value: Any) -> Any:
    """The same value as another client would write it: keys reversed, letters decomposed, whole numbers as floats."""
    match value:
        case dict():
            return {unicodedata.normalize("NFD", key): rewritten(value[key]) for key in reversed(value)}
        case list():
            return tuple(rewritten(item) for item in value)
        case str():
            return unicodedata.normalize("NFD", value)
        case int() if not isinstance(value, bool) and abs(value) < 2**53:
            return float(value)
        case _:
            return value


def one_form(value: Any) -> Any:
    """`value` with composed keys, as far as they stay different."""
    match value:
        case dict():
            return {unicodedata.normalize("NFC", key): one_form(item) for key, item in value.items()}
        case list():
            return [one_form(item) for item in value]
        case _:
            return value


@given(values)
def test_how_a_payload_is_written_does_not_matter(value: Any) -> None:
    """Key order, unicode form, whole floats, tuples: at any depth."""
    value = one_form(value)
    assert fingerprint("pay", rewritten(value)) == fingerprint("pay", value)


def typed(value: Any) -> Any:
    """What may differ without being different, taken away by another way than the fingerprint's."""
    match value:
        case bool() | None:
            return (type(value).__name__, value)
        case int() | float():
            return ("number", value)
        case str():
            return ("text", unicodedata.normalize("NFC", value))
        case dict():
            return ("mapping", frozenset((unicodedata.normalize("NFC", key), typed(value[key])) for key in value))
        case _:
            return ("list", tuple(typed(item) for item in value))


@given(values, values)
def test_different_payloads_have_different_fingerprints(one: Any, other: Any) -> None:
    """Equal when and only when the values are: 1 is not True, and not "1"."""
    one, other = one_form(one), one_form(other)
    assert (fingerprint("pay", one) == fingerprint("pay", other)) is (typed(one) == typed(other))


@given(values)
def test_taking_it_changes_nothing(value: Any) -> None:
    """The payload is left as it was, and gives the same fingerprint again."""
    before = copy.deepcopy(value)
    assert fingerprint("pay", value) == fingerprint("pay", before)
    assert value == before


def test_the_operation_and_the_user_matter() -> None:
    """The same data for another operation, another user or everybody is another request."""
    payload = {"id": 1}
    asked = [
        fingerprint("pay", payload),
        fingerprint("refund", payload),
        fingerprint("pay", payload, user="ann"),
        fingerprint("pay", payload, user="bob"),
        fingerprint("pay", payload, user=""),
        fingerprint("pay", [payload, {"user": "ann"}]),
    ]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    "same",
    [
        (2, 2.0, Decimal(2), Decimal("2.00"), Decimal("2E0")),
        (0, 0.0, -0.0, Decimal("-0.0")),
        (1.1, Decimal("1.1"), Decimal("1.100")),
        (Decimal("0.12345678901234567890"), Decimal("0.1234567890123456789")),
        (10**22, 1e22, Decimal("1E22")),
        ("é", "e\u0301", "\u00e9"),
        (["a", "b"], ("a", "b")),
        ({"a", "b", "c"}, frozenset({"c", "b", "a"})),
        ("card", Kind.CARD),
        ({"sku": "a", "quantity": 1}, Line("a", 1), Asked(sku="a", quantity=1)),
        (UUID(int=7), str(UUID(int=7))),
        (
            dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC),
            dt.datetime(2026, 7, 1, 14, tzinfo=ZoneInfo("Europe/Berlin")),
            "2026-07-01T12:00:00+00:00",
        ),
        (dt.date(2026, 7, 1), "2026-07-01"),
        (b"ab", bytearray(b"ab"), memoryview(b"ab")),
        (dt.timedelta(minutes=1), dt.timedelta(seconds=60), 60),
    ],
)
def test_values_that_mean_the_same_have_one_fingerprint(same: tuple[Any, ...]) -> None:
    """Numbers by value, texts by their letters, instants by when they are."""
    assert len({fingerprint("pay", {"nested": [value]}) for value in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        (1, True, "1", [1], {"1": 1}),
        (0, False, None, "", [], {}),
        (0.1, 0.10000000000000002, Decimal("0.1000000000000000000001")),
        (2**53, 2**53 + 1),
        (["a", "b"], ["b", "a"]),
        (b"ab", "ab"),
        (dt.datetime(2026, 7, 1, 12), dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)),  # noqa: DTZ001 - the point of it
        (float("inf"), float("-inf"), "inf"),
        ({"é": 1, "e\u0301": 2}, {"é": 2}, {"é": 1}, {"é": 2, "e\u0301": 1}),
    ],
)
def test_values_that_mean_something_else_do_not(different: tuple[Any, ...]) -> None:
    """Neither types nor the last digit of a number are lost, and no key hides another."""
    assert len({fingerprint("pay", {"nested": [value]}) for value in different}) == len(different)


@pytest.mark.parametrize("value", [object(), lambda: None, Line, {1: "a", "1": "b"}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    """Its text could be an address in memory: then no two requests would ever be the same."""
    with pytest.raises(TypeError):
        fingerprint("pay", {"nested": [value]})


def test_every_process_takes_the_same_fingerprint() -> None:
    """Also of a set, whose order depends on the process."""
    code = (
        "from reliability.fingerprint import fingerprint;"
        "print(fingerprint('pay', {'of': {'a', 'b', 'c', 'd', 'e'}, 'é': 1.5}, user='ann'))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert seen == {fingerprint("pay", {"of": set("edcba"), "é": 1.5}, user="ann")}


def test_a_text_no_client_should_send_is_taken_as_it_is() -> None:
    """Half a surrogate pair cannot be encoded, and must not become an error of ours."""
    assert fingerprint("pay", "\ud800") != fingerprint("pay", "\ud801")
