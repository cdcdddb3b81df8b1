"""/v1/charges: made by paying an intent, never directly."""

from sandbox.stripe import ids, search
from sandbox.stripe.cards import Decline, TestCard
from sandbox.stripe.errors import Json
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, envelope, filters, listing

_URL = "/v1/charges"


def build(ledger: Ledger, intent: Json, method: Json, card: TestCard) -> Json:
    """A pending charge for an intent; `settle` decides it."""
    charge_id = ids.new("ch")
    charge: Json = {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": intent["statement_descriptor"] or "SANDBOX",
        "captured": False,
        "created": ledger.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": _card_details(intent, method, card), "type": "card"},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "refunds": envelope([], f"{_URL}/{charge_id}/refunds"),
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
    }
    ledger.store.insert(charge)
    return charge


def _card_details(intent: Json, method: Json, card: TestCard) -> Json:
    shown = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
    secured = {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }
    return {
        **{name: method["card"][name] for name in shown},
        "amount_authorized": intent["amount"],
        "authorization_code": None,
        "extended_authorization": {"status": "disabled"},
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card.brand,
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": secured if card.needs_authentication else None,
        "transaction_link_id": None,
    }


def succeed(ledger: Ledger, charge: Json, *, capture: bool) -> None:
    """The bank said yes."""
    charge.update(
        status="succeeded",
        paid=True,
        captured=capture,
        amount_captured=charge["amount"] if capture else 0,
        outcome=_outcome("approved_by_network", None, "Payment complete.", "authorized"),
    )
    ledger.store.save(charge)
    ledger.emit("charge.succeeded", charge)


def fail(ledger: Ledger, charge: Json, decline: Decline) -> None:
    """The bank said no."""
    charge.update(
        status="failed",
        paid=False,
        failure_code=decline.code,
        failure_message=decline.message,
        outcome=_outcome(
            "declined_by_network",
            decline.decline_code,
            "The bank did not return any further details with this decline.",
            "issuer_declined",
        ),
    )
    ledger.store.save(charge)
    ledger.emit("charge.failed", charge)


def _outcome(network_status: str, reason: str | None, seller_message: str, outcome: str) -> Json:
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network_status,
        "reason": reason,
        "risk_level": "normal",
        "seller_message": seller_message,
        "type": outcome,
    }


def retrieve(call: Call) -> Json:
    """One charge."""
    return call.ledger.require("charge", call.path["id"])


def index(call: Call) -> Json:
    """Charges, newest first."""
    known = {name: name for name in ("customer", "payment_intent", "transfer_group")}
    return listing(call, "charge", _URL, filters(call.params, known))


def find(call: Call) -> Json:
    """Charges by metadata, amount and the like."""
    fields: search.Fields = {"amount": int, "created": int, "currency": str, "customer": str, "status": str}
    return search.run(call, "charge", f"{_URL}/search", fields)


OPERATIONS = (
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer payment_intent transfer_group")),
    Operation("GET", f"{_URL}/search", find, search.PARAMS),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
)
