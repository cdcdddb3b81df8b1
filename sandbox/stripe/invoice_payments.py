"""/v1/invoice_payments: which intent pays which invoice; an intent itself does not say."""

from sandbox.stripe import ids
from sandbox.stripe.errors import Json
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, filters, listing
from sandbox.stripe.store import field

_URL = "/v1/invoice_payments"


def build(ledger: Ledger, invoice: Json, intent_id: str) -> Json:
    """The link between an invoice and the intent that is to pay it."""
    payment: Json = {
        "id": ids.new("inpay"),
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": invoice["amount_due"],
        "created": ledger.now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent_id, "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
    ledger.store.insert(payment)
    return payment


def of_intent(ledger: Ledger, intent_id: str) -> Json | None:
    """The link an intent is part of."""
    found = ledger.store.every("invoice_payment", field("payment.payment_intent", intent_id))
    return found[0] if found else None


def index(call: Call) -> Json:
    """Links, newest first."""
    conditions = filters(call.params, {"invoice": "invoice", "status": "status"})
    payment = call.params.child("payment")
    if payment is not None:
        payment.allow({"type", "payment_intent"})
        conditions += filters(payment, {"type": "payment.type", "payment_intent": "payment.payment_intent"})
    return listing(call, "invoice_payment", _URL, conditions)


def retrieve(call: Call) -> Json:
    """One link."""
    return call.ledger.require("invoice_payment", call.path["id"])


OPERATIONS = (
    Operation("GET", _URL, index, names(LIST_PARAMS, "invoice payment status")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
)
