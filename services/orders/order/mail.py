"""What the mails about an order say, as data for notifications' templates."""

from typing import Any

from services.orders.order.domain import Order

__all__ = ["confirmation", "refund_notice", "shipping_notice"]


def _money(amount: int, currency: str) -> dict[str, Any]:
    return {"amount": amount, "currency": currency}


def confirmation(order: Order) -> dict[str, Any]:
    """Data of the template `order_confirmation`."""
    amounts = {name: _money(getattr(order, name), order.currency) for name in _AMOUNTS}
    return {
        "order_number": order.number,
        "customer_name": order.shipping_address["name"],
        "items": [
            {
                "title": line.title,
                "quantity": line.quantity,
                "unit_price": _money(line.unit_price, order.currency),
                "line_total": _money(line.line_total, order.currency),
            }
            for line in order.lines
        ],
        **amounts,
        "shipping_address": order.shipping_address,
    }


def refund_notice(order: Order, amount: int, currency: str, reason: str) -> dict[str, Any]:
    """Data of the template `refund_issued`; `reason` is a sentence, or a code that notifications has one for."""
    return {
        "order_number": order.number,
        "customer_name": order.shipping_address["name"],
        "amount": _money(amount, currency),
        "reason": reason,
    }


def shipping_notice(
    order: Order, carrier: str | None, tracking_number: str | None, tracking_url: str | None
) -> dict[str, Any]:
    """Data of the template `order_shipped`."""
    return {
        "order_number": order.number,
        "customer_name": order.shipping_address["name"],
        "items": [{"title": line.title, "quantity": line.quantity} for line in order.lines],
        "carrier": carrier,
        "tracking_number": tracking_number,
        "tracking_url": tracking_url,
        "shipping_address": order.shipping_address,
    }


_AMOUNTS = ("subtotal", "discount", "shipping", "tax", "total")
