"""Rules of admin without parts: cursors, what is kept of a span, sums that are not whole."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin.dashboard.domain import Dashboard, Revenue
from services.admin.traces.domain import Cursor, is_trace_id, kept_attributes, kept_name

TRACE_IDS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)


@given(st.datetimes(timezones=st.just(UTC)), TRACE_IDS)
def test_a_cursor_comes_back_as_it_went(instant: datetime, trace_id: str) -> None:
    """To the microsecond, and fit for an address."""
    cursor = Cursor(instant, trace_id)
    text = cursor.encode()
    assert Cursor.decode(text) == cursor
    assert text.replace("-", "").replace("_", "").isalnum()
    assert len(text) <= 200


@given(st.text(max_size=200))
def test_a_cursor_that_is_not_ours_is_a_value_error(text: str) -> None:
    """Whatever it is, and nothing else is raised; what does decode encodes to what means the same."""
    try:
        cursor = Cursor.decode(text)
    except ValueError:
        return
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize(
    "text", ["", "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 31 + "\n", "a" * 32 + "\n", "\u0661" * 32]
)
def test_what_is_no_trace_id(text: str) -> None:
    """32 lower-case hexadecimal digits in ASCII, and no more."""
    assert not is_trace_id(text)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB.PassWord",
        "token",
        "csrf-token",
        "Cookie",
        "api_key",
        "api.key",
        "apikey",
        "API KEY",
        "access-key",
        "authorization",
        "authorisation",
        "client_secret",
        "credentials",
        "signature",
        "session_id",
        "cardNumber",
        "cvv",
    ],
)
def test_a_name_that_looks_like_a_secret_is_left_out(name: str) -> None:
    """Alone, inside a longer name, inside a value, and where the name is longer than what is kept of it."""
    for full in (name, f"http.request.header.{name}", f"{name}.raw", "x" * 256 + name):
        assert kept_attributes({full: "hunter2", "plain": {full: "hunter2"}}) == {"plain": {}}


@pytest.mark.parametrize(
    "name",
    [
        "http.route",
        "db.system.name",
        "rpc.method",
        "correlation.id",
        "job.attempt",
        "cardinality",
        "wildcard",
        "discarded",
        "order.key",
        "keys",
        "author",
        "passing",
        "process.id",
    ],
)
def test_other_names_stay(name: str) -> None:
    """A trace nobody can read helps nobody."""
    assert kept_attributes({name: 1}) == {name: 1}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://shop.test/api/checkout/1?token=abc", "https://shop.test/api/checkout/1"),
        ("GET /a?b=c HTTP/1.1", "GET /a HTTP/1.1"),
        ("/a?b=c#d", "/a#d"),
        ("/api/unsubscribe/abc", "/api/unsubscribe/-"),
        ("/api/unsubscribe/abc/def?x", "/api/unsubscribe/-/def"),
        ("/api/unsubscribe/", "/api/unsubscribe/"),
        ("POST /api/checkout", "POST /api/checkout"),
        ("", ""),
    ],
)
def test_addresses_are_kept_without_what_opens_doors(text: str, kept: str) -> None:
    """As a value, in a list, and as the name of a span."""
    assert kept_attributes({"v": text, "l": [text]}) == {"v": kept, "l": [kept]}
    assert kept_name(text) == kept


def test_what_is_long_is_cut() -> None:
    """Values at 2,048 characters, names at 256."""
    assert kept_attributes({"n" * 300: "x" * 3000}) == {"n" * 256: "x" * 2048}
    assert kept_name("x" * 300) == "x" * 256


def dashboard(**changes: Any) -> Dashboard:
    values: dict[str, Any] = {
        "orders_today": 1,
        "revenue_today": Revenue({"USD": 5, "EUR": 7}),
        "pending_orders": 0,
        "failed_emails": 0,
        "parked_webhooks": 0,
        "dead_letters": {"orders": 2, "admin": 3},
        "incidents": 1,
        "degraded": [],
    }
    return Dashboard(**(values | changes))


def test_a_sum_with_a_part_missing_is_no_sum() -> None:
    """It would look better than things are."""
    assert dashboard().open_incidents == 6
    assert dashboard(dead_letters={}).open_incidents == 1
    assert dashboard(incidents=None).open_incidents is None
    assert dashboard(degraded=["payments-webhooks"]).open_incidents is None


def test_currencies_are_not_added_up() -> None:
    """The shop's own is shown first, zero when nothing was taken in it."""
    revenue = Revenue({"USD": 5, "EUR": 7})
    assert revenue.main("EUR") == (7, "EUR")
    assert revenue.main("CHF") == (0, "CHF")
