"""/v1/checkout/sessions: the hosted payment page, for one-time payments."""

import json

from sandbox.stripe import ids, line_items, payment_intents, payments, timers
from sandbox.stripe.errors import InvalidState, Json, no_such
from sandbox.stripe.forms import Params, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, filters, listing
from sandbox.stripe.store import field

_URL = "/v1/checkout/sessions"
_CREATING = names(
    "allow_promotion_codes automatic_tax billing_address_collection cancel_url client_reference_id currency customer "
    "customer_creation customer_email expires_at line_items locale metadata mode payment_intent_data "
    "payment_method_types payment_method_collection phone_number_collection return_url submit_type success_url ui_mode"
)
_INTENT_DATA = names(
    "application_fee_amount capture_method description metadata receipt_email setup_future_usage shipping "
    "statement_descriptor statement_descriptor_suffix transfer_group"
)
_SHORTEST, _LONGEST = 30 * 60, 24 * 3600
_HOSTED = ("hosted", "hosted_page")


def create(call: Call) -> Json:
    """Create a session and the address of its page."""
    ledger, params = call.ledger, call.params
    mode = params.choice("mode", {"payment", "setup", "subscription"}) or "payment"
    if mode != "payment":
        params.refuse("mode", f"This stand-in takes one-time payments only: mode={mode} is not there.")
    ui_mode = params.text("ui_mode")
    if ui_mode not in {None, *_HOSTED}:
        params.refuse("ui_mode", "This stand-in has the hosted page only: leave ui_mode out.")
    params.require("success_url")
    (params.child("payment_intent_data") or Params()).allow(_INTENT_DATA)
    lines, total, currency = line_items.read(params, ledger.now)
    customer = params.text("customer")
    if customer and ledger.store.get("customer", customer) is None:
        raise no_such("customer", customer, "customer")
    session = _build(call, total, currency, _expiry(params, ledger.now))
    url = f"{_URL}/{session['id']}/line_items"
    listed = {"object": "list", "data": lines, "has_more": False, "url": url}
    data = params.child("payment_intent_data")
    ledger.store.insert(session, note=json.dumps({"line_items": listed, "intent": data.tree() if data else {}}))
    timers.start(ledger.store, timers.Action.EXPIRE_SESSION, session["id"], session["expires_at"])
    return session


def _expiry(params: Params, now: int) -> int:
    expires_at = params.integer("expires_at")
    if expires_at is None:
        return now + _LONGEST
    if not now + _SHORTEST - 60 <= expires_at <= now + _LONGEST + 60:
        params.refuse("expires_at", "The `expires_at` timestamp must be from 30 minutes to 24 hours after creation.")
    return expires_at


def _build(call: Call, total: int, currency: str, expires_at: int) -> Json:
    params, session_id = call.params, f"cs_test_a1{ids.token(56)}"
    email = params.text("customer_email", limit=800)
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": params.boolean("allow_promotion_codes") if "allow_promotion_codes" in params else None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": params.choice("billing_address_collection", {"auto", "required"}),
        "cancel_url": params.text("cancel_url"),
        "client_reference_id": params.text("client_reference_id", limit=200),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": call.ledger.now,
        "currency": currency,
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": params.text("customer"),
        "customer_account": None,
        "customer_creation": params.choice("customer_creation", {"always", "if_required"}) or "if_required",
        "customer_details": _details(email) if email else None,
        "customer_email": email,
        "discounts": [],
        "expires_at": expires_at,
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": None,
                "metadata": {},
                "rendering_options": None,
            },
        },
        "livemode": False,
        "locale": params.text("locale"),
        "managed_payments": {"enabled": False},
        "metadata": params.metadata(),
        "mode": "payment",
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": params.texts("payment_method_types") or ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": params.text("submit_type"),
        "subscription": None,
        "success_url": params.text("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": params.text("ui_mode") or _HOSTED[-1],
        "url": f"{call.base_url}/c/pay/{session_id}",
        "wallet_options": None,
    }


def _details(email: str | None) -> Json:
    return {
        "address": None,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": None,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": None,
    }


def pay(ledger: Ledger, session: Json, method: Json, how: payments.Confirmation) -> Json:
    """The customer pays on the page; a declined session stays open, and keeps its intent for the next card."""
    _require_open(session, "paid")
    intent = ledger.store.get("payment_intent", session["payment_intent"] or "") or _intent(ledger, session)
    payments.confirm(ledger, intent, method, how)
    return complete(ledger, intent) or session


def _intent(ledger: Ledger, session: Json) -> Json:
    kept = json.loads(ledger.store.note(session["id"]) or "{}")
    params = Params(kept["intent"], "payment_intent_data")
    intent = payment_intents.build(ledger, params, session["amount_total"], session["currency"], session["customer"])
    ledger.emit("payment_intent.created", intent)
    session["payment_intent"] = intent["id"]
    ledger.store.save(session)
    return intent


def complete(ledger: Ledger, intent: Json) -> Json | None:
    """Complete the session an intent belongs to, once the intent has succeeded."""
    sessions = ledger.store.every("checkout.session", field("payment_intent", intent["id"]), field("status", "open"))
    if not sessions or intent["status"] not in {"succeeded", "requires_capture"}:
        return None
    session = sessions[0]
    paid = "paid" if intent["status"] == "succeeded" else "unpaid"
    email = session["customer_email"] or "customer@example.com"
    session.update(status="complete", payment_status=paid, url=None, customer_details=_details(email))
    ledger.store.save(session)
    ledger.emit("checkout.session.completed", session)
    return session


def expire(call: Call) -> Json:
    """Close a session: nobody can pay it any more."""
    session = call.ledger.require("checkout.session", call.path["id"], "session")
    _require_open(session, "expired")
    return _expire(call.ledger, session)


def expire_by_time(ledger: Ledger, session_id: str) -> None:
    """Close a session whose time is over, if it is still open."""
    session = ledger.store.get("checkout.session", session_id)
    if session is not None and session["status"] == "open":
        _expire(ledger, session)


def _expire(ledger: Ledger, session: Json) -> Json:
    intent = ledger.store.get("payment_intent", session["payment_intent"] or "")
    if intent is not None and intent["status"] in payments.CANCELABLE:
        payments.cancel(ledger, intent, None)
    session.update(status="expired", url=None)
    ledger.store.save(session)
    ledger.emit("checkout.session.expired", session)
    return session


def _require_open(session: Json, verb: str) -> None:
    if session["status"] != "open":
        raise InvalidState(
            f'Only Checkout Sessions with a status in ["open"] can be {verb}. This Checkout Session has a status of '
            f"{session['status']}."
        )


def retrieve(call: Call) -> Json:
    """One session."""
    return call.ledger.require("checkout.session", call.path["id"], "session")


def lines(call: Call) -> Json:
    """The lines of a session, all on one page."""
    session = retrieve(call)
    listed: Json = json.loads(call.ledger.store.note(session["id"]) or "{}")["line_items"]
    return listed


def index(call: Call) -> Json:
    """Sessions, newest first."""
    known = {"customer": "customer", "payment_intent": "payment_intent", "status": "status"}
    return listing(call, "checkout.session", _URL, filters(call.params, known))


OPERATIONS = (
    Operation("POST", _URL, create, _CREATING),
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer payment_intent status")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}/expire", expire, names("")),
    Operation("GET", f"{_URL}/{{id}}/line_items", lines, names("limit starting_after ending_before")),
)
