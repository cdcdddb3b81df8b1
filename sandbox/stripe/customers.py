"""/v1/customers."""

from typing import Any

from sandbox.stripe import ids, search
from sandbox.stripe.errors import Json, no_such
from sandbox.stripe.forms import Params, names
from sandbox.stripe.ledger import Call
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, address, assign, changes, filters, listing, shipping
from sandbox.stripe.store import field

_URL = "/v1/customers"
_WRITABLE = names(
    "address business_name description email individual_name invoice_prefix metadata name phone preferred_locales "
    "shipping tax_exempt invoice_settings"
)


def _values(params: Params) -> dict[str, Any]:
    where = params.child("address")
    return {
        "address": address(where) if where else None,
        "business_name": params.text("business_name", limit=150),
        "description": params.text("description"),
        "email": params.text("email", limit=512),
        "individual_name": params.text("individual_name", limit=150),
        "invoice_prefix": params.text("invoice_prefix", limit=12),
        "name": params.text("name", limit=256),
        "phone": params.text("phone", limit=20),
        "preferred_locales": params.texts("preferred_locales"),
        "shipping": shipping(params.child("shipping")),
        "tax_exempt": params.choice("tax_exempt", {"none", "exempt", "reverse"}) or "none",
    }


def _default_method(params: Params) -> str | None:
    settings = params.child("invoice_settings")
    if settings is None:
        return None
    settings.allow({"default_payment_method"})
    return settings.text("default_payment_method")


def _test_clock(call: Call) -> str | None:
    clock = call.params.text("test_clock")
    if clock and call.ledger.store.get("test_helpers.test_clock", clock) is None:
        raise no_such("test_clock", clock, "test_clock")
    return clock


def create(call: Call) -> Json:
    """Create a customer."""
    ledger, params = call.ledger, call.params
    values = _values(params)
    customer: Json = {
        "id": ids.new("cus"),
        "object": "customer",
        **values,
        "balance": 0,
        "created": ledger.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "discount": None,
        "invoice_prefix": values["invoice_prefix"] or ids.token(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": _default_method(params),
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": params.metadata(),
        "next_invoice_sequence": 1,
        "test_clock": _test_clock(call),
    }
    ledger.store.insert(customer)
    ledger.emit("customer.created", customer)
    return customer


def retrieve(call: Call) -> Json:
    """One customer; a deleted one as its stump."""
    return call.ledger.require("customer", call.path["id"])


def update(call: Call) -> Json:
    """Change what the call names."""
    ledger, params = call.ledger, call.params
    values = _values(params)
    before = ledger.require("customer", call.path["id"])
    customer = dict(before, metadata=params.metadata(before.get("metadata")))
    assign(customer, params, values)
    if "invoice_settings" in params:
        chosen = {"default_payment_method": _default_method(params)}
        customer["invoice_settings"] = {**before["invoice_settings"], **chosen}
    ledger.store.save(customer)
    ledger.emit("customer.updated", customer, changes(before, customer))
    return customer


def delete(call: Call) -> Json:
    """Delete a customer: the id stays, nothing else does."""
    customer = call.ledger.require("customer", call.path["id"])
    stump = {"id": customer["id"], "object": "customer", "deleted": True}
    call.ledger.emit("customer.deleted", customer)
    call.ledger.store.save(stump)
    return stump


def index(call: Call) -> Json:
    """Customers, newest first."""
    return listing(call, "customer", _URL, [field("deleted", None), *filters(call.params, {"email": "email"})])


def find(call: Call) -> Json:
    """Customers by metadata, email and the like."""
    return search.run(call, "customer", f"{_URL}/search", {"created": int, "email": str, "name": str, "phone": str})


OPERATIONS = (
    Operation("POST", _URL, create, _WRITABLE | {"test_clock"}),
    Operation("GET", _URL, index, names(LIST_PARAMS, "email")),
    Operation("GET", f"{_URL}/search", find, search.PARAMS),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}", update, _WRITABLE),
    Operation("DELETE", f"{_URL}/{{id}}", delete, names("")),
)
