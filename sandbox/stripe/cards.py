"""Stripe's test cards, and what paying with each does."""

from dataclasses import dataclass
from enum import Enum


class RefundOutcome(Enum):
    """What becomes of refunds to a card."""

    SUCCEEDS = "succeeds"
    PENDING_THEN_SUCCEEDS = "pending, then succeeds"
    SUCCEEDS_THEN_FAILS = "succeeds, then fails"


@dataclass(frozen=True, slots=True)
class Decline:
    """The bank's no."""

    code: str
    decline_code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class TestCard:
    """A card number and how it behaves."""

    number: str
    token: str
    brand: str = "visa"
    funding: str = "credit"
    decline: Decline | None = None
    needs_authentication: bool = False
    refunds: RefundOutcome = RefundOutcome.SUCCEEDS
    disputed_as: str | None = None

    @property
    def last4(self) -> str:
        """All that is ever shown of the number."""
        return self.number[-4:]


def _declined(decline_code: str, message: str = "Your card was declined.") -> Decline:
    return Decline("card_declined", decline_code, message)


_INSUFFICIENT = _declined("insufficient_funds", "Your card has insufficient funds.")
_EXPIRED = Decline("expired_card", "expired_card", "Your card has expired.")
_CVC = Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
_PROCESSING = Decline(
    "processing_error",
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
)

AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)

CARDS = (
    TestCard("4242424242424242", "visa"),
    TestCard("4000056655665556", "visa_debit", funding="debit"),
    TestCard("5555555555554444", "mastercard", brand="mastercard"),
    TestCard("378282246310005", "amex", brand="amex"),
    TestCard("4000000000000002", "visa_chargeDeclined", decline=_declined("generic_decline")),
    TestCard("4000000000009995", "visa_chargeDeclinedInsufficientFunds", decline=_INSUFFICIENT),
    TestCard("4000000000009987", "visa_chargeDeclinedLostCard", decline=_declined("lost_card")),
    TestCard("4000000000009979", "visa_chargeDeclinedStolenCard", decline=_declined("stolen_card")),
    TestCard("4000000000000069", "chargeDeclinedExpiredCard", decline=_EXPIRED),
    TestCard("4000000000000127", "chargeDeclinedIncorrectCvc", decline=_CVC),
    TestCard("4000000000000119", "chargeDeclinedProcessingError", decline=_PROCESSING),
    TestCard("4000002500003155", "authenticationRequiredOnSetup", needs_authentication=True),
    TestCard("4000002760003184", "authenticationRequired", needs_authentication=True),
    TestCard(
        "4000008400001629",
        "authenticationRequiredChargeDeclined",
        needs_authentication=True,
        decline=_declined("generic_decline"),
    ),
    TestCard("4000000000007726", "pendingRefund", refunds=RefundOutcome.PENDING_THEN_SUCCEEDS),
    TestCard("4000000000005126", "refundFail", refunds=RefundOutcome.SUCCEEDS_THEN_FAILS),
    TestCard("4000000000000259", "createDispute", disputed_as="fraudulent"),
    TestCard("4000000000002685", "createDisputeProductNotReceived", disputed_as="product_not_received"),
)

_BY_NUMBER = {card.number: card for card in CARDS}
_ALIASES = {
    "chargeDeclined": "4000000000000002",
    "chargeDeclinedInsufficientFunds": "4000000000009995",
    "threeDSecure2Required": "4000002760003184",
    "threeDSecureRequired": "4000002760003184",
}
_BY_TOKEN = {card.token: card for card in CARDS} | {name: _BY_NUMBER[number] for name, number in _ALIASES.items()}


def by_number(number: str) -> TestCard | None:
    """The test card with this number, however it is spaced."""
    return _BY_NUMBER.get(number.replace(" ", "").replace("-", ""))


def by_token(token: str) -> TestCard | None:
    """The test card behind pm_card_... or tok_..."""
    for prefix in ("pm_card_", "tok_"):
        if token.startswith(prefix):
            return _BY_TOKEN.get(token.removeprefix(prefix))
    return None
