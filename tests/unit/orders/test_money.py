"""Money is exact: parts add up to the whole, rounding is half up per line, and nobody pays less than nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orders.cart.domain import Cart, CartItem, CatalogEntry
from services.orders.checkout.domain import Details, Price, price
from services.orders.coupon.domain import Coupon, CouponKind, Refusal, discounts, refusal
from services.orders.errors import NotShippable
from services.orders.money import allocate, share, written
from services.orders.shipping import ShippingMethod, shipping_price
from services.orders.tax.domain import SHIPPING, Taxable, TaxRate

NOW = datetime(2026, 11, 24, tzinfo=UTC)
amounts = st.integers(0, 10**9)


def coupon(kind: CouponKind = CouponKind.PERCENTAGE, value: int = 1500, **fields: object) -> Coupon:
    values: dict[str, object] = {
        "minimum": 0,
        "starts_at": NOW,
        "ends_at": None,
        "total_limit": None,
        "per_customer_limit": None,
        "active": True,
        "redeemed": 0,
    }
    return Coupon("c", "TEN", kind, value, "USD", **(values | fields))  # type: ignore[arg-type]


def priced(unit_prices: list[int], used: Coupon | None = None, country: str = "US") -> Price:
    cart = Cart(
        "cart",
        tuple(CartItem(str(at), str(at), "Thing", 1, cents, "USD") for at, cents in enumerate(unit_prices)),
        used,
    )
    entries = {item.variant_id: CatalogEntry(item.variant_id, "SKU", "Thing", 0, "USD", 1) for item in cart.items}
    return price(cart, Details("", {"country": country}, ShippingMethod.STANDARD, ""), entries, NOW)


@pytest.mark.parametrize(
    ("amount", "part", "whole", "expected"),
    [(1, 1, 2, 1), (3, 1, 2, 2), (5, 1, 10, 1), (4, 1, 10, 0), (100, 72500, 10**6, 7)],
)
def test_half_goes_up(amount: int, part: int, whole: int, expected: int) -> None:
    """Never to even, never down."""
    assert share(amount, part, whole) == expected


@given(amounts, st.lists(amounts, min_size=1, max_size=20))
def test_parts_add_up(amount: int, weights: list[int]) -> None:
    """To the cent, each within one of its exact share."""
    parts = allocate(amount, weights)
    whole = sum(weights)
    assert sum(parts) == (amount if whole else 0)
    assert all(
        abs(part * whole - amount * weight) < whole for part, weight in zip(parts, weights, strict=True) if whole
    )


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20), st.integers(1, 10_000), st.sampled_from(CouponKind))
def test_no_line_costs_less_than_nothing(totals: list[int], value: int, kind: CouponKind) -> None:
    """Whatever the coupon: each discount is between nothing and its line."""
    off = discounts(coupon(kind, value), totals)
    assert all(0 <= less <= total for less, total in zip(off, totals, strict=True))
    if kind is CouponKind.AMOUNT:
        assert sum(off) == min(value, sum(totals))


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
    st.integers(1, 10_000),
    st.sampled_from(CouponKind),
    st.integers(0, 300_000),
    st.booleans(),
)
def test_an_order_adds_up(unit_prices: list[int], value: int, kind: CouponKind, rate: int, shipped: bool) -> None:
    """The total is what its parts say, and is what the database's CHECK constraints want."""
    net = priced(unit_prices, coupon(kind, value))
    costs = net.with_taxes([TaxRate(rate, shipped).on(item) for item in net.taxables()])
    assert costs.total == sum(line.line_total - line.discount + line.tax for line in costs.lines) + (
        costs.shipping + costs.shipping_tax
    )
    assert 0 <= costs.discount <= costs.subtotal
    assert 0 <= costs.shipping_tax <= costs.tax


def test_free_shipping_counts_after_the_discount() -> None:
    """50.00 of goods less 10 % is not 50.00 of goods."""
    assert priced([5000]).shipping == 0
    assert priced([5000], coupon(value=1000)).shipping == 499


@pytest.mark.parametrize(
    ("method", "country", "goods", "expected"),
    [
        (ShippingMethod.STANDARD, "US", 4999, 499),
        (ShippingMethod.STANDARD, "US", 5000, 0),
        (ShippingMethod.EXPRESS, "US", 5000, 1299),
        (ShippingMethod.STANDARD, "DE", 14999, 1499),
        (ShippingMethod.STANDARD, "DE", 15000, 0),
        (ShippingMethod.EXPRESS, "DE", 15000, 3499),
    ],
)
def test_tariffs(method: ShippingMethod, country: str, goods: int, expected: int) -> None:
    """To the cent at the threshold."""
    assert shipping_price(method, country, goods, "USD") == expected


def test_a_currency_without_a_tariff_is_refused() -> None:
    """Dollars are not euros."""
    with pytest.raises(NotShippable):
        shipping_price(ShippingMethod.STANDARD, "DE", 100, "EUR")


def test_shipping_is_taxed_only_where_it_is() -> None:
    """By the destination's rule."""
    assert TaxRate(200_000, shipping_taxed=True).on(Taxable(SHIPPING, 1000)) == 200
    assert TaxRate(200_000, shipping_taxed=False).on(Taxable(SHIPPING, 1000)) == 0


@pytest.mark.parametrize(
    ("fields", "used", "reason"),
    [
        ({}, 0, None),
        ({"active": False}, 0, Refusal.INACTIVE),
        ({"starts_at": NOW + timedelta(seconds=1)}, 0, Refusal.NOT_STARTED),
        ({"ends_at": NOW}, 0, Refusal.EXPIRED),
        ({"ends_at": NOW + timedelta(seconds=1)}, 0, None),
        ({"minimum": 1001}, 0, Refusal.MINIMUM_NOT_REACHED),
        ({"minimum": 1000}, 0, None),
        ({"total_limit": 3, "redeemed": 3}, 0, Refusal.USED_UP),
        ({"per_customer_limit": 2}, 1, None),
        ({"per_customer_limit": 2}, 2, Refusal.USED_BY_CUSTOMER),
    ],
)
def test_why_a_coupon_does_not_apply(fields: dict[str, Any], used: int, reason: Refusal | None) -> None:
    """Each limit to the unit."""
    assert refusal(coupon(**fields), 1000, "USD", NOW, used=used) is reason
    assert refusal(coupon(), 1000, "EUR", NOW) is Refusal.OTHER_CURRENCY


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1299, "USD", "12.99 USD"),
        (5, "EUR", "0.05 EUR"),
        (0, "USD", "0.00 USD"),
        (1299, "JPY", "1299 JPY"),
        (1299, "KWD", "1.299 KWD"),
        (10**12, "USD", "10000000000.00 USD"),
    ],
)
def test_an_amount_is_written_as_it_is_paid(amount: int, currency: str, text: str) -> None:
    """Not in minor units: 500 USD would be read as a hundred times 5 dollars."""
    assert written(amount, currency) == text
