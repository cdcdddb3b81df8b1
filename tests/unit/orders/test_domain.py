"""What an order costs, and what it makes of money."""

from services.orders.cart.cookie import Signer
from services.orders.checkout.domain import cart_differences
from services.orders.order.domain import OrderStatus, PaymentOutcome, outcome_of_payment


def test_only_a_pending_order_takes_money() -> None:
    """Every other state sends it back."""
    applied = [status for status in OrderStatus if outcome_of_payment(status) is PaymentOutcome.APPLIED]
    assert applied == [OrderStatus.PENDING]


def test_carts_differ_by_quantity_only() -> None:
    """Both directions are told."""
    assert cart_differences({"a": 1}, {"a": 1}) == []
    assert cart_differences({"a": 1}, {"b": 2}) == [
        {"variant_id": "a", "ordered": 1, "in_cart": 0},
        {"variant_id": "b", "ordered": 0, "in_cart": 2},
    ]


def test_a_cart_cookie_cannot_be_forged() -> None:
    """Another id, another purpose, another secret: no cart."""
    signer = Signer("s" * 32, secure=True)
    cart = "01890000-0000-7000-8000-000000000000"
    cookie = signer.cart_cookie(cart)
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    assert signer.read_cart(value) == cart
    assert signer.read_cart(value.replace("0189", "0190")) is None
    assert signer.read_cart(f"{cart}.{signer.sign('checkout', cart)}") is None
    assert Signer("t" * 32, secure=True).read_cart(value) is None


def test_a_cart_cookie_comes_back_over_plain_http() -> None:
    """A browser returns a `Secure` one over https only."""
    assert "Secure" not in Signer("s" * 32, secure=False).cart_cookie("01890000-0000-7000-8000-000000000000")
