"""/v1/disputes: a cardholder goes to their bank. Opened by test cards or by the sandbox, answered by evidence."""

from sandbox.stripe import ids
from sandbox.stripe.errors import InvalidState, Json
from sandbox.stripe.forms import echo, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, changes, filters, listing

_URL = "/v1/disputes"
_ANSWER_SECONDS = 7 * 86_400
_OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")
_EVIDENCE = sorted(
    names(
        "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal "
        "customer_communication customer_email_address customer_name customer_purchase_ip customer_signature "
        "duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt "
        "refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation "
        "shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number "
        "uncategorized_file uncategorized_text"
    )
    - names("")
)
_TEST_EVIDENCE = {"winning_evidence": True, "losing_evidence": False}
REASONS = frozenset({
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
    "duplicate", "fraudulent", "general", "incorrect_account_details", "insufficient_funds", "noncompliant",
    "product_not_received", "product_unacceptable", "subscription_canceled", "unrecognized",
})  # fmt: skip


def open_for(ledger: Ledger, charge: Json, reason: str) -> Json:
    """The cardholder contests a charge: the money is taken back until it is decided."""
    if not charge["captured"] or charge["disputed"]:
        raise InvalidState(f"Charge {charge['id']} cannot be disputed: it holds no money, or it is disputed already.")
    dispute: Json = {
        "id": ids.new("du"),
        "object": "dispute",
        "amount": charge["amount_captured"],
        "balance_transactions": [],
        "charge": charge["id"],
        "created": ledger.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": ledger.now + _ANSWER_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "chargeback",
                "network": charge["payment_method_details"]["card"]["network"],
                "network_reason_code": "83",
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    }
    charge["disputed"] = True
    ledger.store.save(charge)
    ledger.store.insert(dispute)
    ledger.emit("charge.dispute.created", dispute)
    ledger.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def decide(ledger: Ledger, dispute: Json, *, won: bool) -> Json:
    """The bank's last word."""
    _require_open(dispute)
    before = dict(dispute)
    dispute["status"] = "won" if won else "lost"
    ledger.store.save(dispute)
    ledger.emit("charge.dispute.closed", dispute, changes(before, dispute))
    if won:
        ledger.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


def _require_open(dispute: Json) -> None:
    if dispute["status"] not in _OPEN:
        raise InvalidState(f"Dispute {dispute['id']} is {dispute['status']}, which is final.")


def retrieve(call: Call) -> Json:
    """One dispute."""
    return call.ledger.require("dispute", call.path["id"])


def update(call: Call) -> Json:
    """Evidence, handed in at once unless `submit` is false."""
    params, dispute = call.params, retrieve(call)
    given = params.child("evidence")
    if given is not None:
        given.allow({*_EVIDENCE, "enhanced_evidence"})
    _require_open(dispute)
    before = dict(dispute)
    dispute["metadata"] = params.metadata(dispute["metadata"])
    if given is not None:
        dispute["evidence"] = {**dispute["evidence"], **(echo(given) or {})}
        dispute["evidence_details"] = {**dispute["evidence_details"], "has_evidence": True}
    if given is not None and ("submit" not in params or params.boolean("submit")):
        _submit(dispute)
    call.ledger.store.save(dispute)
    call.ledger.emit("charge.dispute.updated", dispute, changes(before, dispute))
    said = dispute["evidence"]["uncategorized_text"]
    if dispute["status"] == "under_review" and said in _TEST_EVIDENCE:
        return decide(call.ledger, dispute, won=_TEST_EVIDENCE[said])
    return dispute


def _submit(dispute: Json) -> None:
    dispute["status"] = "under_review"
    details = dispute["evidence_details"]
    dispute["evidence_details"] = {**details, "submission_count": details["submission_count"] + 1}


def close(call: Call) -> Json:
    """Give in."""
    return decide(call.ledger, retrieve(call), won=False)


def index(call: Call) -> Json:
    """Disputes, newest first."""
    known = {"charge": "charge", "payment_intent": "payment_intent"}
    return listing(call, "dispute", _URL, filters(call.params, known))


OPERATIONS = (
    Operation("GET", _URL, index, names(LIST_PARAMS, "charge payment_intent")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}", update, names("evidence metadata submit")),
    Operation("POST", f"{_URL}/{{id}}/close", close, names("")),
)
