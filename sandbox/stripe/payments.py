"""What happens to an intent when somebody pays: confirm, authenticate, settle, capture, cancel.

requires_payment_method → requires_confirmation → [requires_action] → [processing] → succeeded | requires_capture;
a refusal at any of these leads back to requires_payment_method, with `last_payment_error` saying why.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from sandbox.stripe import charges, disputes, ids, invoices
from sandbox.stripe.cards import AUTHENTICATION_REQUIRED, Decline
from sandbox.stripe.errors import CardDeclined, InvalidState, Json
from sandbox.stripe.ledger import Ledger
from sandbox.stripe.payment_methods import card_of

CANCELABLE = (
    "requires_payment_method",
    "requires_capture",
    "requires_confirmation",
    "requires_action",
    "processing",
)
_CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_AUTHENTICATION_FAILED = Decline(
    "payment_intent_authentication_failure",
    None,
    "We are unable to authenticate your payment method. Please choose a different payment method and try again.",
)
_CANCELED = Decline("card_declined", "canceled", "The payment was canceled before it was decided.")
_SETTLEMENT_FAILED = Decline("card_declined", "generic_decline", "Your card was declined.")


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How a payment is confirmed. `processing` leaves it undecided until it is settled."""

    return_url: str | None = None
    off_session: bool = False
    error_on_requires_action: bool = False
    processing: bool = False


def confirm(ledger: Ledger, intent: Json, method: Json, how: Confirmation) -> Json:
    """Pay an intent with a card; raise `CardDeclined` if the bank says no."""
    require_status(intent, _CONFIRMABLE, "confirm")
    card = card_of(ledger, method)
    if intent["setup_future_usage"] and intent["customer"]:
        method["customer"] = intent["customer"]
        ledger.store.save(method)
    intent.update(payment_method=method["id"], last_payment_error=None, next_action=None)
    if not card.needs_authentication:
        return _charge(ledger, intent, method, processing=how.processing)
    if how.off_session or how.error_on_requires_action:
        _refuse(ledger, intent, method, AUTHENTICATION_REQUIRED)
    intent.update(status="requires_action", next_action=_next_action(intent, how.return_url))
    ledger.store.save(intent)
    ledger.emit("payment_intent.requires_action", intent)
    return intent


def _next_action(intent: Json, return_url: str | None) -> Json:
    if return_url:
        url = f"/_sandbox/payment_intents/{intent['id']}/authenticate"
        return {"redirect_to_url": {"return_url": return_url, "url": url}, "type": "redirect_to_url"}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"source": ids.new("src"), "type": "three_d_secure_redirect"}}


def authenticate(ledger: Ledger, intent: Json, *, success: bool) -> Json:
    """The cardholder answers the bank's question."""
    require_status(intent, ("requires_action",), "authenticate")
    method = ledger.require("payment_method", intent["payment_method"])
    intent["next_action"] = None
    if not success:
        _refuse(ledger, intent, method, _AUTHENTICATION_FAILED)
    return _charge(ledger, intent, method)


def _charge(ledger: Ledger, intent: Json, method: Json, *, processing: bool = False) -> Json:
    card = card_of(ledger, method)
    charge = charges.build(ledger, intent, method, card)
    intent["latest_charge"] = charge["id"]
    if processing:
        intent.update(status="processing", processing={"type": "card", "card": {"customer_notification": None}})
        ledger.store.save(intent)
        ledger.emit("charge.pending", charge)
        ledger.emit("payment_intent.processing", intent)
        return intent
    return _decide(ledger, intent, method, charge, card.decline)


def settle(ledger: Ledger, intent: Json, *, success: bool) -> Json:
    """A payment that was processing is decided."""
    require_status(intent, ("processing",), "settle")
    method = ledger.require("payment_method", intent["payment_method"])
    charge = ledger.require("charge", intent["latest_charge"])
    intent["processing"] = None
    decline = card_of(ledger, method).decline
    return _decide(ledger, intent, method, charge, decline if success else decline or _SETTLEMENT_FAILED)


def _decide(ledger: Ledger, intent: Json, method: Json, charge: Json, decline: Decline | None) -> Json:
    if decline is not None:
        charges.fail(ledger, charge, decline)
        _refuse(ledger, intent, method, decline, charge=charge["id"])
    automatic = intent["capture_method"] != "manual"
    charges.succeed(ledger, charge, capture=automatic)
    if automatic:
        _succeed(ledger, intent, charge["amount"])
        if disputed_as := card_of(ledger, method).disputed_as:
            disputes.open_for(ledger, charge, disputed_as)
        return intent
    intent.update(status="requires_capture", amount_capturable=charge["amount"])
    ledger.store.save(intent)
    ledger.emit("payment_intent.amount_capturable_updated", intent)
    return intent


def _succeed(ledger: Ledger, intent: Json, received: int) -> Json:
    intent.update(status="succeeded", amount_received=received, amount_capturable=0)
    ledger.store.save(intent)
    ledger.emit("payment_intent.succeeded", intent)
    invoices.paid_by(ledger, intent)
    return intent


def _refuse(ledger: Ledger, intent: Json, method: Json, decline: Decline, *, charge: str | None = None) -> NoReturn:
    """Put the intent back to where another card can be tried, and say why."""
    error = CardDeclined(
        decline.message, code=decline.code, decline_code=decline.decline_code, charge=charge, payment_method=method
    )
    intent.update(status="requires_payment_method", payment_method=None, last_payment_error=error.detail())
    ledger.store.save(intent)
    ledger.emit("payment_intent.payment_failed", intent)
    invoices.failed_by(ledger, intent)
    error.fields["payment_intent"] = intent
    raise error


def capture(ledger: Ledger, intent: Json, amount: int | None) -> Json:
    """Take money that was reserved; what is not taken is given back."""
    require_status(intent, ("requires_capture",), "capture")
    taken = intent["amount_capturable"] if amount is None else amount
    if not 0 < taken <= intent["amount_capturable"]:
        raise InvalidState(
            f"The requested capture amount is not between 1 and the amount_capturable, {intent['amount_capturable']}.",
            code="amount_too_large" if taken > 0 else "parameter_invalid_integer",
            param="amount_to_capture",
        )
    charge = ledger.require("charge", intent["latest_charge"])
    charge.update(captured=True, amount_captured=taken)
    ledger.store.save(charge)
    ledger.emit("charge.captured", charge)
    return _succeed(ledger, intent, taken)


def cancel(ledger: Ledger, intent: Json, reason: str | None) -> Json:
    """End an intent that has taken no money; money reserved for it is let go."""
    require_status(intent, CANCELABLE, "cancel")
    charge = ledger.store.get("charge", intent["latest_charge"] or "")
    if charge is not None and charge["status"] == "succeeded":
        charge.update(refunded=True, amount_refunded=charge["amount"])
        ledger.store.save(charge)
        ledger.emit("charge.refunded", charge)
    elif charge is not None and charge["status"] == "pending":
        charges.fail(ledger, charge, _CANCELED)
    intent.update(
        status="canceled",
        canceled_at=ledger.now,
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
        processing=None,
    )
    ledger.store.save(intent)
    ledger.emit("payment_intent.canceled", intent)
    return intent


def require_status(intent: Json, allowed: Collection[str], verb: str) -> None:
    """Refuse what the intent's status does not allow; the error carries the intent, as Stripe's does."""
    if intent["status"] in allowed:
        return
    if verb == "confirm" and intent["status"] == "succeeded":
        message = (
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
        )
    else:
        message = (
            f"This PaymentIntent's status is {intent['status']}, and you cannot {verb} it. Only a PaymentIntent with "
            f"one of the following statuses may be used: {', '.join(allowed)}."
        )
    raise InvalidState(message, code="payment_intent_unexpected_state", payment_intent=intent)
