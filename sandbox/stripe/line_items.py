"""The lines of a checkout session, priced where they stand (`price_data`)."""

from sandbox.stripe import ids
from sandbox.stripe.errors import Json, no_such
from sandbox.stripe.forms import Params
from sandbox.stripe.money import check_limits, read_currency

_LINE = ("price", "price_data", "quantity", "adjustable_quantity", "dynamic_tax_rates", "tax_rates", "metadata")
_PRICE = ("currency", "product_data", "unit_amount", "tax_behavior", "product", "recurring", "unit_amount_decimal")
_MOST = 100


def read(params: Params, created: int) -> tuple[list[Json], int, str]:
    """Read `line_items`: the lines, their total and their one currency."""
    params.require("line_items")
    given = params.children("line_items")
    if not 1 <= len(given) <= _MOST:
        params.refuse("line_items", f"A session has from 1 to {_MOST} line items.")
    lines = [_line(item, created) for item in given]
    currency = lines[0]["currency"]
    if any(line["currency"] != currency for line in lines):
        params.refuse("line_items", "All line items must have the same currency.")
    total = sum(line["amount_total"] for line in lines)
    check_limits(params, "line_items", total, currency)
    return lines, total, currency


def _line(item: Params, created: int) -> Json:
    item.allow(_LINE)
    price_id = item.text("price")
    if price_id is not None:
        raise no_such("price", price_id, item.name("price"))
    item.require("price_data", "quantity")
    quantity = item.integer("quantity") or 0
    if quantity < 1:
        item.refuse("quantity", "This value must be greater than or equal to 1.", "parameter_invalid_integer")
    price = _price(item.child("price_data") or Params(), created)
    amount = price["unit_amount"] * quantity
    return {
        "id": ids.new("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": price.pop("description"),
        "metadata": item.metadata(),
        "price": price,
        "quantity": quantity,
    }


def _price(data: Params, created: int) -> Json:
    data.allow(_PRICE)
    data.require("unit_amount")
    currency, unit_amount = read_currency(data), data.integer("unit_amount") or 0
    if unit_amount < 0:
        data.refuse("unit_amount", "This value must be greater than or equal to 0.", "parameter_invalid_integer")
    data.require("product_data")
    product = data.child("product_data") or Params()
    product.require("name")
    return {
        "id": ids.new("price"),
        "object": "price",
        "active": False,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": currency,
        "custom_unit_amount": None,
        "description": product.text("name"),
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": ids.new("prod"),
        "recurring": None,
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": unit_amount,
        "unit_amount_decimal": str(unit_amount),
    }
