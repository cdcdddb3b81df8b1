"""/v1/refunds: full or partial, never more than was taken."""

from collections.abc import Sequence

from sandbox.stripe import ids, timers
from sandbox.stripe.cards import RefundOutcome
from sandbox.stripe.errors import InvalidParameter, InvalidState, Json, no_such
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.payment_methods import card_of
from sandbox.stripe.shapes import LIST_PARAMS, changes, envelope, filters, listing
from sandbox.stripe.store import field

_URL = "/v1/refunds"
_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
_SETTLES_AFTER_SECONDS = 2.0
GIVEN_BACK = ("succeeded", "pending", "requires_action")
"""The statuses in which a refund counts against its charge."""


def create(call: Call) -> Json:
    """Give back all that is left of a charge, or part of it."""
    ledger, params = call.ledger, call.params
    amount, reason, metadata = params.integer("amount"), params.choice("reason", _REASONS), params.metadata()
    if amount is not None and amount < 1:
        params.refuse("amount", "This value must be greater than or equal to 1.", "parameter_invalid_integer")
    charge = _charge(call)
    left = charge["amount_captured"] - charge["amount_refunded"]
    _check(charge, left if amount is None else amount, left)
    refund = _build(ledger, charge, left if amount is None else amount, reason, metadata)
    outcome = _outcome(ledger, charge)
    if outcome is RefundOutcome.PENDING_THEN_SUCCEEDS:
        refund["status"] = "pending"
    ledger.store.insert(refund)
    if outcome is not RefundOutcome.SUCCEEDS:
        timers.start(ledger.store, timers.Action.SETTLE_REFUND, refund["id"], ledger.at + _SETTLES_AFTER_SECONDS)
    _recount(ledger, charge)
    ledger.emit("charge.refunded", charge)
    ledger.emit("refund.created", refund)
    return refund


def _build(ledger: Ledger, charge: Json, amount: int, reason: str | None, metadata: dict[str, str]) -> Json:
    return {
        "id": ids.new("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": ledger.now,
        "currency": charge["currency"],
        "customer": charge["customer"],
        "customer_account": None,
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def _charge(call: Call) -> Json:
    """The charge to refund, named itself or by its intent."""
    store = call.ledger.store
    charge_id, intent_id = call.params.text("charge"), call.params.text("payment_intent")
    if (charge_id is None) == (intent_id is None):
        raise InvalidParameter(
            "One of the following params should be provided for this request: payment_intent or charge."
        )
    if intent_id is not None:
        intent = store.get("payment_intent", intent_id)
        if intent is None:
            raise no_such("payment_intent", intent_id, "payment_intent")
        charge_id = intent["latest_charge"]
        if charge_id is None:
            raise InvalidState(
                f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
                payment_intent=intent,
            )
    charge = store.get("charge", charge_id or "")
    if charge is None:
        raise no_such("charge", charge_id or "", "charge")
    return charge


def _check(charge: Json, amount: int, left: int) -> None:
    if not charge["paid"] or not charge["captured"]:
        raise InvalidState(
            f"Charge {charge['id']} has not been captured, so there is nothing to refund.", code="charge_not_refundable"
        )
    if left == 0:
        raise InvalidState(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded", charge=charge["id"]
        )
    if amount > left:
        raise InvalidState(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}), in the smallest unit of "
            f"{charge['currency']}.",
            code="amount_too_large",
            param="amount",
            charge=charge["id"],
        )


def _outcome(ledger: Ledger, charge: Json) -> RefundOutcome:
    return card_of(ledger, ledger.require("payment_method", charge["payment_method"])).refunds


def _recount(ledger: Ledger, charge: Json) -> None:
    """Make the charge agree with its refunds."""
    refunds = ledger.store.every("refund", field("charge", charge["id"]))[::-1]
    charge["refunds"] = envelope(refunds, f"/v1/charges/{charge['id']}/refunds")
    charge["amount_refunded"] = sum(refund["amount"] for refund in refunds if refund["status"] in GIVEN_BACK)
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    ledger.store.save(charge)


def settle(ledger: Ledger, refund: Json, *, success: bool) -> Json:
    """The bank's last word on a refund."""
    if refund["status"] not in {"pending", "succeeded"}:
        raise InvalidState(f"Refund {refund['id']} is {refund['status']}, which is final.")
    before = dict(refund)
    refund["status"] = "succeeded" if success else "failed"
    if not success:
        refund.update(failure_reason="expired_or_canceled_card", failure_balance_transaction=None)
    ledger.store.save(refund)
    _recount(ledger, ledger.require("charge", refund["charge"]))
    ledger.emit("refund.updated", refund, changes(before, refund))
    if not success:
        ledger.emit("refund.failed", refund, changes(before, refund))
    return refund


def settle_by_card(ledger: Ledger, refund_id: str) -> None:
    """What the card's owner's bank does after a while."""
    refund = ledger.store.get("refund", refund_id)
    if refund is None or refund["status"] not in {"pending", "succeeded"}:
        return
    outcome = _outcome(ledger, ledger.require("charge", refund["charge"]))
    settle(ledger, refund, success=outcome is not RefundOutcome.SUCCEEDS_THEN_FAILS)


def retrieve(call: Call) -> Json:
    """One refund."""
    return call.ledger.require("refund", call.path["id"])


def update(call: Call) -> Json:
    """Change a refund's metadata; nothing else can be."""
    refund = call.ledger.require("refund", call.path["id"])
    before = dict(refund)
    refund["metadata"] = call.params.metadata(refund["metadata"])
    call.ledger.store.save(refund)
    call.ledger.emit("refund.updated", refund, changes(before, refund))
    return refund


def index(call: Call) -> Json:
    """Refunds, newest first."""
    known = {"charge": "charge", "payment_intent": "payment_intent"}
    return listing(call, "refund", _URL, filters(call.params, known))


def of_charge(call: Call) -> Json:
    """The refunds of the charge in the path."""
    charge = call.ledger.require("charge", call.path["id"])
    return listing(call, "refund", f"/v1/charges/{charge['id']}/refunds", [field("charge", charge["id"])])


OPERATIONS: Sequence[Operation] = (
    Operation(
        "POST",
        _URL,
        create,
        names(
            "amount charge payment_intent reason metadata instructions_email refund_application_fee reverse_transfer"
        ),
    ),
    Operation("GET", _URL, index, names(LIST_PARAMS, "charge payment_intent")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}", update, names("metadata")),
    Operation("GET", "/v1/charges/{id}/refunds", of_charge, names(LIST_PARAMS)),
)
