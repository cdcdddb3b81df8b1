"""Data to show a template with, before it is sent to anybody."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["SAMPLES"]

_NAME: Final = {"customer_name": "Ada Lovelace"}
_LINK: Final = "https://shop.example/account/confirm?token=8Zk2vQ5nT0aXb7RcYw1LmE"
_ADDRESS: Final = {
    "name": "Ada Lovelace",
    "line1": "12 Garden Street",
    "line2": "Apt 3",
    "city": "Springfield",
    "postal_code": "62704",
    "region": "IL",
    "country": "US",
}


def _money(amount: int) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD"}


_KIBBLE: Final = {
    "title": "Salmon & Rice Kibble, 4 kg",
    "quantity": 2,
    "unit_price": _money(3499),
    "line_total": _money(6998),
}
_HARNESS: Final = {
    "title": "Reflective Harness",
    "quantity": 1,
    "unit_price": _money(2450),
    "line_total": _money(2450),
}
_VISIT: Final = {
    **_NAME,
    "timezone": "America/Chicago",
    "service": "Full groom",
    "staff": "Jordan",
    "pet_name": "Biscuit",
    "starts_at": "2026-12-01T15:30:00Z",
    "ends_at": "2026-12-01T17:00:00Z",
}

SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "order_confirmation": {
        **_NAME,
        "order_number": "HF-10042",
        "items": [_KIBBLE, _HARNESS],
        "subtotal": _money(9448),
        "discount": _money(945),
        "shipping": _money(0),
        "tax": _money(701),
        "total": _money(9204),
        "shipping_address": _ADDRESS,
    },
    "order_shipped": {
        **_NAME,
        "order_number": "HF-10042",
        "items": [_KIBBLE, _HARNESS],
        "carrier": "Parcel Post",
        "tracking_number": "PP 4417 2290 18",
        "tracking_url": "https://carrier.example/track/PP4417229018",
        "shipping_address": _ADDRESS,
    },
    "refund_issued": {**_NAME, "order_number": "HF-10042", "amount": _money(9204), "reason": "out_of_stock"},
    "email_verification": {**_NAME, "link": _LINK, "valid_minutes": 24 * 60},
    "account_exists": {**_NAME, "link": _LINK},
    "password_reset": {**_NAME, "link": _LINK, "valid_minutes": 30},
    "staff_invitation": {**_NAME, "link": _LINK, "valid_minutes": 7 * 24 * 60},
    "password_changed": {**_NAME, "link": _LINK, "happened_at": "2026-11-24T18:05:00Z"},
    "session_ended": {
        **_NAME,
        "link": _LINK,
        "happened_at": "2026-11-24T18:05:00Z",
        "device": "Firefox on Linux",
    },
    "email_change": {**_NAME, "link": _LINK, "valid_minutes": 120, "new_email": "ada@new.example.com"},
    "email_change_approval": {**_NAME, "link": _LINK, "valid_minutes": 120, "new_email": "ada@new.example.com"},
    "email_changed": {**_NAME, "new_email": "a***@new.example.com", "happened_at": "2026-11-24T18:05:00Z"},
    "appointment_booked": {**_VISIT, "note": "Biscuit is afraid of hair dryers."},
    "appointment_moved": {**_VISIT, "previous_starts_at": "2026-11-30T20:00:00Z"},
    "appointment_reminder": {**_VISIT, "hours": 24},
    "appointment_cancelled": {**_VISIT, "by_shop": True, "reason": "Jordan is ill and nobody can stand in."},
    "subscription_paid": {
        **_NAME,
        "plan": "A box of treats",
        "amount": _money(2000),
        "paid_until": "2026-12-24T18:05:00Z",
    },
    "subscription_payment_failed": {
        **_NAME,
        "plan": "A box of treats",
        "amount": _money(2000),
        "next_attempt_at": "2026-11-27T18:05:00Z",
    },
    "subscription_ended": {**_NAME, "plan": "A box of treats", "ended_at": "2026-11-24T18:05:00Z"},
    "abandoned_cart": {**_NAME, "items": [_KIBBLE, _HARNESS], "subtotal": _money(9448), "link": _LINK},
    "back_in_stock": {**_NAME, "title": "Salmon & Rice Kibble, 4 kg", "price": _money(3499), "link": _LINK},
    "confirm_subscription": {**_NAME, "link": _LINK, "valid_minutes": 7 * 24 * 60},
    "care_tips": _NAME,
    "mail_failed": {
        "template": "order_confirmation",
        "recipient": "ada@example.com",
        "state": "failed",
        "attempts": 3,
        "error": "550 5.1.1 No such mailbox here",
        "email_id": "0199a7f2-5c1e-7d3a-9a55-0d6e4f1b2c3d",
        "flow": "checkout-7f3a",
    },
}
