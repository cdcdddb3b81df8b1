"""Two services, one promise: whoever may order gets a confirmation that can be written."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deploy.local.demo.shopper import BUYER
from services.notifications.mail.templates import Templates
from services.notifications.schemas import MailRequest, checked
from services.orders.checkout.schemas import PlaceOrder
from services.orders.order.domain import Order, OrderLine, OrderStatus, StockState
from services.orders.order.mail import confirmation

TEMPLATES = Templates()
LINE = OrderLine("v", "SKU", "Puzzle feeder", 1, 1299)
ADDRESS: dict[str, Any] = dict(BUYER["shipping_address"])  # type: ignore[arg-type]
FIELDS = ("name", "line1", "line2", "city", "postal_code", "region")


def ordered(body: PlaceOrder) -> Order:
    """The order that checkout would write."""
    instant = datetime(2026, 11, 24, tzinfo=UTC)
    return Order(
        id="o",
        number="HF-1",
        cart_id="c",
        status=OrderStatus.PAID,
        stock=StockState.COMMITTED,
        email=body.email,
        shipping_address=body.shipping_address.model_dump(),
        shipping_method=body.shipping_method,
        note=body.note or "",
        currency="USD",
        subtotal=1299,
        discount=0,
        shipping=499,
        tax=0,
        total=1798,
        hold_expires_at=instant,
        payment_intent_id="pi_1",
        client_secret="secret",
        correlation_id="flow",
        lines=(LINE,),
        customer_id=None,
        created_at=instant,
        coupon_code=None,
        shipping_tax=0,
    )


def confirm(body: PlaceOrder) -> str:
    """What notifications makes of the order's confirmation; raises what it would refuse it with."""
    order = ordered(body)
    fields = {
        "idempotency_key": "k",
        "to": order.email,
        "template": "order_confirmation",
        "data": confirmation(order),
    }
    request = checked(MailRequest, fields)
    return TEMPLATES.render(TEMPLATES.find(request.template), request.data)[1].text


def body(**address: Any) -> dict[str, Any]:
    return {"email": "robin@example.com", "shipping_address": {**ADDRESS, **address}}


@given(field=st.sampled_from(FIELDS), text=st.text(max_size=201))
def test_an_address_that_is_taken_can_be_written(field: str, text: str) -> None:
    """Whatever somebody types: refused while they can still correct it, or on the mail."""
    try:
        placed = PlaceOrder.model_validate(body(**{field: text}))
    except ValidationError:
        return
    assert "HF-1" in confirm(placed)


@pytest.mark.parametrize("text", ["Robin\nMeadows", "Robin\tMeadows", "Robin\u2028Meadows", "a\x85b", "a\x7fb"])
@pytest.mark.parametrize("field", FIELDS)
def test_an_address_is_written_in_lines(field: str, text: str) -> None:
    """A line with control characters is refused with its pointer, before there is anything to pay."""
    with pytest.raises(ValidationError) as refused:
        PlaceOrder.model_validate(body(**{field: text[:20]}))
    assert [error["loc"] for error in refused.value.errors()] == [("shipping_address", field)]


@pytest.mark.parametrize(
    ("email", "kept"),
    [
        ("Robin@Example.COM", "Robin@example.com"),
        ("robin@müller.de", "robin@xn--mller-kva.de"),
        ("jürgen@example.com", None),
        ("two@example.com, three@example.com", None),
    ],
)
def test_mail_goes_where_a_mail_server_can_be_told_to_send_it(email: str, kept: str | None) -> None:
    """The domain in ASCII; what is before the @ has no ASCII form, and is refused where it needs one."""
    if kept is None:
        with pytest.raises(ValidationError):
            PlaceOrder.model_validate({**body(), "email": email})
        return
    placed = PlaceOrder.model_validate({**body(), "email": email})
    assert placed.email == kept
    assert "HF-1" in confirm(placed)
