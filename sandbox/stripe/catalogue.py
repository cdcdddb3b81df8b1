"""/v1/products and /v1/prices: what subscriptions are made of."""

from sandbox.stripe import ids
from sandbox.stripe.errors import InvalidState, Json, no_such
from sandbox.stripe.forms import Params, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.money import read_currency
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, changes, filters, listing
from sandbox.stripe.store import Condition, field

_PRODUCTS, _PRICES = "/v1/products", "/v1/prices"
_INTERVALS = {"day", "week", "month", "year"}


def create_product(call: Call) -> Json:
    """A product, under an id of the caller's if one is given."""
    ledger, params = call.ledger, call.params
    params.require("name")
    product_id = params.text("id") or ids.new("prod")
    if ledger.store.find(product_id) is not None:
        raise InvalidState(f"Product already exists: {product_id}", code="resource_already_exists", param="id")
    product: Json = {
        "id": product_id,
        "object": "product",
        "active": True,
        "created": ledger.now,
        "default_price": None,
        "description": params.text("description"),
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": params.metadata(),
        "name": params.text("name"),
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": ledger.now,
        "url": None,
    }
    ledger.store.insert(product)
    ledger.emit("product.created", product)
    return product


def retrieve_product(call: Call) -> Json:
    """One product."""
    return call.ledger.require("product", call.path["id"])


def list_products(call: Call) -> Json:
    """Products, newest first."""
    return listing(call, "product", _PRODUCTS)


def create_price(call: Call) -> Json:
    """A price of a product, once or again and again."""
    ledger, params = call.ledger, call.params
    params.require("product", "unit_amount")
    product, amount = params.text("product") or "", params.integer("unit_amount") or 0
    if amount < 0:
        params.refuse("unit_amount", "This value must be greater than or equal to 0.", "parameter_invalid_integer")
    if ledger.store.get("product", product) is None:
        raise no_such("product", product, "product")
    lookup_key = params.text("lookup_key", limit=200)
    _take_lookup_key(ledger, params, lookup_key)
    recurring = _recurring(params.child("recurring"))
    price: Json = {
        "id": ids.new("price"),
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": ledger.now,
        "currency": read_currency(params),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": lookup_key,
        "metadata": params.metadata(),
        "nickname": params.text("nickname"),
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }
    ledger.store.insert(price)
    ledger.emit("price.created", price)
    return price


def _recurring(given: Params | None) -> Json | None:
    if given is None:
        return None
    given.allow({"interval", "interval_count", "usage_type"})
    given.require("interval")
    count = given.integer("interval_count") or 1
    return {
        "interval": given.choice("interval", _INTERVALS),
        "interval_count": count,
        "meter": None,
        "trial_period_days": None,
        "usage_type": given.choice("usage_type", {"licensed"}) or "licensed",
    }


def _take_lookup_key(ledger: Ledger, params: Params, lookup_key: str | None) -> None:
    """A lookup key is one price's at a time; `transfer_lookup_key` takes it from the other."""
    for other in ledger.store.every("price", field("lookup_key", lookup_key)) if lookup_key else []:
        if not params.boolean("transfer_lookup_key"):
            raise InvalidState(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
        before = dict(other)
        other["lookup_key"] = None
        ledger.store.save(other)
        ledger.emit("price.updated", other, changes(before, other))


def retrieve_price(call: Call) -> Json:
    """One price."""
    return call.ledger.require("price", call.path["id"])


def list_prices(call: Call) -> Json:
    """Prices, newest first."""
    conditions = filters(call.params, {"product": "product", "type": "type"})
    if keys := call.params.texts("lookup_keys"):
        known = " OR ".join("json_extract(body, '$.lookup_key') = ?" for _ in keys)
        conditions.append(Condition(f"({known})", tuple(keys)))
    return listing(call, "price", _PRICES, conditions)


OPERATIONS = (
    Operation("POST", _PRODUCTS, create_product, names("id name description metadata")),
    Operation("GET", _PRODUCTS, list_products, names(LIST_PARAMS)),
    Operation("GET", f"{_PRODUCTS}/{{id}}", retrieve_product, names("")),
    Operation(
        "POST",
        _PRICES,
        create_price,
        names("product unit_amount currency recurring lookup_key transfer_lookup_key nickname metadata"),
    ),
    Operation("GET", _PRICES, list_prices, names(LIST_PARAMS, "product type lookup_keys")),
    Operation("GET", f"{_PRICES}/{{id}}", retrieve_price, names("")),
)
