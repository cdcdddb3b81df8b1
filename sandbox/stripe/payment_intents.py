"""/v1/payment_intents."""

from typing import Any

from sandbox.stripe import ids, payments, search
from sandbox.stripe.cards import TestCard
from sandbox.stripe.errors import InvalidParameter, InvalidState, Json, missing, no_such
from sandbox.stripe.forms import Params, echo, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.money import read_amount, read_currency
from sandbox.stripe.operations import Operation
from sandbox.stripe.payment_methods import build as build_method
from sandbox.stripe.payment_methods import read_card, resolve
from sandbox.stripe.shapes import LIST_PARAMS, assign, filters, listing, shipping

_URL = "/v1/payment_intents"
_UPDATABLE = (
    "allowed_payment_method_types amount amount_details application_fee_amount capture_method currency customer "
    "description excluded_payment_method_types metadata payment_details payment_method payment_method_configuration "
    "payment_method_data payment_method_options payment_method_types receipt_email setup_future_usage shipping "
    "statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
)
_CONFIRMING = (
    "error_on_requires_action mandate mandate_data off_session payment_method payment_method_data "
    "payment_method_options radar_options receipt_email return_url setup_future_usage shipping use_stripe_sdk "
    "capture_method amount_details payment_details payment_method_types client_secret"
)
_CREATING = names(_UPDATABLE, _CONFIRMING, "automatic_payment_methods confirm confirmation_method on_behalf_of")
_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
_MONEY = ("amount", "currency", "capture_method", "payment_method", "payment_method_data")


def _values(params: Params) -> dict[str, Any]:
    return {
        "amount_details": echo(params.child("amount_details")) or {"tip": {}},
        "application_fee_amount": params.integer("application_fee_amount"),
        "capture_method": params.choice("capture_method", {"automatic", "automatic_async", "manual"}) or "automatic",
        "description": params.text("description", limit=1000),
        "excluded_payment_method_types": params.texts("excluded_payment_method_types") or None,
        "payment_method_options": echo(params.child("payment_method_options")) or {},
        "payment_method_types": params.texts("payment_method_types") or ["card"],
        "receipt_email": params.text("receipt_email", limit=800),
        "setup_future_usage": params.choice("setup_future_usage", {"off_session", "on_session"}),
        "shipping": shipping(params.child("shipping")),
        "statement_descriptor": params.text("statement_descriptor", limit=22),
        "statement_descriptor_suffix": params.text("statement_descriptor_suffix", limit=22),
        "transfer_group": params.text("transfer_group"),
    }


def _customer(ledger: Ledger, params: Params) -> str | None:
    customer = params.text("customer")
    found = ledger.store.get("customer", customer) if customer else None
    if customer and (found is None or found.get("deleted")):
        raise no_such("customer", customer, "customer")
    return customer


def build(ledger: Ledger, params: Params, amount: int, currency: str, customer: str | None) -> Json:
    """A new intent from parameters that `_CREATING` allows; recorded and announced."""
    intent_id = ids.new("pi")
    automatic = params.child("automatic_payment_methods")
    enabled = automatic.boolean("enabled") if automatic else "payment_method_types" not in params
    intent: Json = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "application": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True} if enabled else None,
        "canceled_at": None,
        "cancellation_reason": None,
        "client_secret": ids.client_secret(intent_id),
        "confirmation_method": params.choice("confirmation_method", {"automatic", "manual"}) or "automatic",
        "created": ledger.now,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": params.metadata(),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "processing": None,
        "review": None,
        "source": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        **_values(params),
    }
    ledger.store.insert(intent)
    return intent


def create(call: Call) -> Json:
    """Create an intent, and confirm it if asked to."""
    ledger, params = call.ledger, call.params
    amount, currency = read_amount(params), read_currency(params)
    card, confirming = _card(params), params.boolean("confirm")
    how = _confirmation(params)
    if not confirming and (how.off_session or how.error_on_requires_action):
        raise InvalidParameter("off_session and error_on_requires_action can only be used with confirm=true.")
    customer = _customer(ledger, params)
    method = _method(ledger, params, card)
    intent = build(ledger, params, amount, currency, customer)
    if method is not None:
        intent.update(payment_method=method["id"], status="requires_confirmation")
        ledger.store.save(intent)
    ledger.emit("payment_intent.created", intent)
    if not confirming:
        return intent
    return payments.confirm(ledger, intent, _required(intent, method), how)


def confirm(call: Call) -> Json:
    """Confirm an intent with the payment method given now or before."""
    ledger, params = call.ledger, call.params
    values, card, how = _values(params), _card(params), _confirmation(params)
    intent = ledger.require("payment_intent", call.path["id"], "intent")
    if params.text("client_secret") not in {None, intent["client_secret"]}:
        raise InvalidState(
            "The client_secret provided does not match any associated PaymentIntent.", param="client_secret"
        )
    method = _method(ledger, params, card)
    if method is None and intent["payment_method"]:
        method = ledger.store.get("payment_method", intent["payment_method"])
    payments.require_status(intent, _OPEN, "confirm")
    assign(intent, params, values)
    return payments.confirm(ledger, intent, _required(intent, method), how)


def _required(intent: Json, method: Json | None) -> Json:
    if method is None:
        raise InvalidState(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method.",
            code="payment_intent_unexpected_state",
            payment_intent=intent,
        )
    return method


def _card(params: Params) -> TestCard | None:
    data = params.child("payment_method_data")
    if data is None:
        return None
    if "payment_method" in params:
        params.refuse("payment_method_data", "You may only specify one of payment_method and payment_method_data.")
    return read_card(data)


def _method(ledger: Ledger, params: Params, card: TestCard | None) -> Json | None:
    data = params.child("payment_method_data")
    if card is not None and data is not None:
        return build_method(ledger, card, data.child("billing_details"))
    given = params.text("payment_method")
    return resolve(ledger, given) if given else None


def _confirmation(params: Params) -> payments.Confirmation:
    off_session = params.text("off_session")
    return payments.Confirmation(
        return_url=params.text("return_url"),
        off_session=off_session not in {None, "false"},
        error_on_requires_action=params.boolean("error_on_requires_action"),
    )


def retrieve(call: Call) -> Json:
    """One intent."""
    intent = call.ledger.require("payment_intent", call.path["id"], "intent")
    if call.params.text("client_secret") not in {None, intent["client_secret"]}:
        raise missing("payment_intent", call.path["id"], "intent")
    return intent


def update(call: Call) -> Json:
    """Change an intent: metadata always, money and method only while nobody has paid."""
    ledger, params = call.ledger, call.params
    values, card = _values(params), _card(params)
    amount = read_amount(params) if "amount" in params else None
    currency = read_currency(params) if "currency" in params else None
    intent = ledger.require("payment_intent", call.path["id"], "intent")
    if any(name in params for name in _MONEY):
        payments.require_status(intent, _OPEN, "update the amount, currency or payment method of")
    customer, method = _customer(ledger, params), _method(ledger, params, card)
    assign(intent, params, {**values, "customer": customer})
    intent["metadata"] = params.metadata(intent["metadata"])
    intent.update(amount=amount or intent["amount"], currency=currency or intent["currency"])
    if method is not None:
        intent.update(payment_method=method["id"], status="requires_confirmation", next_action=None)
    elif amount is not None and intent["status"] == "requires_action":
        intent.update(status="requires_confirmation", next_action=None)
    ledger.store.save(intent)
    return intent


def capture(call: Call) -> Json:
    """Take money that was reserved."""
    amount, ledger = call.params.integer("amount_to_capture"), call.ledger
    metadata_given = "metadata" in call.params
    intent = ledger.require("payment_intent", call.path["id"], "intent")
    if metadata_given:
        intent["metadata"] = call.params.metadata(intent["metadata"])
    return payments.capture(ledger, intent, amount)


def cancel(call: Call) -> Json:
    """End an intent."""
    reason = call.params.choice("cancellation_reason", _REASONS)
    return payments.cancel(call.ledger, call.ledger.require("payment_intent", call.path["id"], "intent"), reason)


def index(call: Call) -> Json:
    """Intents, newest first."""
    return listing(call, "payment_intent", _URL, filters(call.params, {"customer": "customer"}))


def find(call: Call) -> Json:
    """Intents by metadata, amount, status and the like."""
    fields: search.Fields = {"amount": int, "created": int, "currency": str, "customer": str, "status": str}
    return search.run(call, "payment_intent", f"{_URL}/search", fields)


OPERATIONS = (
    Operation("POST", _URL, create, _CREATING),
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer")),
    Operation("GET", f"{_URL}/search", find, search.PARAMS),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("client_secret")),
    Operation("POST", f"{_URL}/{{id}}", update, names(_UPDATABLE)),
    Operation("POST", f"{_URL}/{{id}}/confirm", confirm, names(_CONFIRMING)),
    Operation(
        "POST",
        f"{_URL}/{{id}}/capture",
        capture,
        names("amount_to_capture final_capture metadata statement_descriptor statement_descriptor_suffix"),
    ),
    Operation("POST", f"{_URL}/{{id}}/cancel", cancel, names("cancellation_reason")),
)
