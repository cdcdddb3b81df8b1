"""/v1/payment_methods: test cards only, and the tokens Stripe gives them."""

from sandbox.stripe import cards, ids
from sandbox.stripe.cards import TestCard
from sandbox.stripe.errors import CardDeclined, InvalidParameter, InvalidState, Json, missing, no_such
from sandbox.stripe.forms import Params, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, billing, filters, listing
from sandbox.stripe.store import field

_URL = "/v1/payment_methods"
_EXPIRY_YEAR = 2034


def build(ledger: Ledger, card: TestCard, holder: Params | None = None, metadata: dict[str, str] | None = None) -> Json:
    """A payment method for a test card."""
    method: Json = {
        "id": ids.new("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing(holder),
        "card": {
            "brand": card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "display_brand": card.brand,
            "exp_month": 12,
            "exp_year": _EXPIRY_YEAR,
            "fingerprint": f"{card.number[-16:]:0>16}"[::-1],
            "funding": card.funding,
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": ledger.now,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": metadata or {},
        "type": "card",
    }
    # The number decides what paying with it does; it is a published test number and is never answered.
    ledger.store.insert(method, note=card.number)
    return method


def card_of(ledger: Ledger, method: Json) -> TestCard:
    """The test card behind a payment method."""
    card = cards.by_number(ledger.store.note(method["id"]) or "")
    if card is None:
        raise no_such("PaymentMethod", method["id"], "payment_method")
    return card


def resolve(ledger: Ledger, method_id: str, param: str = "payment_method") -> Json:
    """The payment method with this id; a token such as pm_card_visa makes a new one."""
    card = cards.by_token(method_id) if method_id.startswith("pm_card_") else None
    if card is not None:
        return build(ledger, card)
    found = ledger.store.get("payment_method", method_id)
    if found is None:
        raise no_such("PaymentMethod", method_id, param)
    return found


def read_card(params: Params) -> TestCard:
    """The test card in card[number] or card[token]."""
    params.require("type")
    params.choice("type", {"card"})
    given = params.child("card")
    if given is None:
        raise InvalidParameter("Missing required param: card.", code="parameter_missing", param=params.name("card"))
    number, token = given.text("number"), given.text("token")
    card = cards.by_token(token) if token else cards.by_number(number or "")
    if card is None and token:
        raise no_such("token", token, given.name("token"))
    if card is None:
        raise CardDeclined(
            "Your card number is incorrect. Use one of the published test cards.",
            code="incorrect_number",
            param=given.name("number"),
        )
    return card


def create(call: Call) -> Json:
    """Create a payment method for a test card."""
    card = read_card(call.params)
    return build(call.ledger, card, call.params.child("billing_details"), call.params.metadata())


def retrieve(call: Call) -> Json:
    """One payment method."""
    found = call.ledger.store.get("payment_method", call.path["id"])
    if found is None:
        raise missing("PaymentMethod", call.path["id"], "payment_method")
    return found


def index(call: Call) -> Json:
    """The payment methods of a customer, or of everybody."""
    return listing(call, "payment_method", _URL, filters(call.params, {"customer": "customer", "type": "type"}))


def of_customer(call: Call) -> Json:
    """The payment methods of the customer in the path."""
    call.ledger.require("customer", call.path["id"])
    url = f"/v1/customers/{call.path['id']}/payment_methods"
    return listing(call, "payment_method", url, [field("customer", call.path["id"])])


def attach(call: Call) -> Json:
    """Save a payment method with a customer."""
    call.params.require("customer")
    ledger, customer = call.ledger, call.params.text("customer") or ""
    method = resolve(ledger, call.path["id"])
    if ledger.store.get("customer", customer) is None:
        raise no_such("customer", customer, "customer")
    if method["customer"] not in {None, customer}:
        raise InvalidState("The payment method you provided has already been attached to a customer.")
    method["customer"] = customer
    ledger.store.save(method)
    ledger.emit("payment_method.attached", method)
    return method


def detach(call: Call) -> Json:
    """Take a payment method from its customer."""
    method = retrieve(call)
    if method["customer"] is None:
        raise InvalidState("The payment method you provided is not attached to a customer so detachment is impossible.")
    before = {"customer": method["customer"]}
    method["customer"] = None
    call.ledger.store.save(method)
    call.ledger.emit("payment_method.detached", method, before)
    return method


OPERATIONS = (
    Operation("POST", _URL, create, names("type card billing_details metadata allow_redisplay")),
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer type")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}/attach", attach, names("customer")),
    Operation("POST", f"{_URL}/{{id}}/detach", detach, names("")),
    Operation("GET", "/v1/customers/{id}/payment_methods", of_customer, names(LIST_PARAMS, "type")),
)
