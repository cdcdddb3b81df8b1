"""The official SDK gets from the sandbox what it gets from Stripe: objects, lists, errors."""

from typing import Any

import httpx
import pytest
import stripe

from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    API_KEY,
    Sandbox,
    receiver_fixture,
    receiver_url_fixture,
    sandbox_fixture,
    servers_fixture,
)

pytestmark = pytest.mark.usefixtures("receiver")


async def test_a_card_that_works_makes_one_charge(sandbox: Sandbox) -> None:
    """Paying leads through the documented states, to one charge and the documented events in order."""
    intent = await sandbox.intent(receipt_email="a@example.com")
    assert (intent.status, intent.livemode, intent.latest_charge) == ("requires_payment_method", False, None)
    assert intent.client_secret is not None
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert intent.id.startswith("pi_")
    assert (await sandbox.pay(intent.id))["status"] == "succeeded"
    paid = await sandbox.api.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge", "customer"]})
    charge = paid.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.paid, charge.captured, charge.amount_captured) == (True, True, 1299)
    assert charge.payment_method_details is not None
    assert charge.payment_method_details.card is not None
    assert charge.payment_method_details.card.last4 == "4242"
    assert charge.metadata.to_dict() == {"order_id": "o-1"}
    assert (paid.amount_received, paid.status) == (1299, "succeeded")
    assert await sandbox.event_types() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


async def test_an_event_keeps_the_object_as_it_was(sandbox: Sandbox) -> None:
    """The created event still shows the unpaid intent after it has been paid, and names the request that made it."""
    intent = await sandbox.intent()
    await sandbox.pay(intent.id)
    listed = await sandbox.api.v1.events.list_async({"type": "payment_intent.created"})
    event = await sandbox.api.v1.events.retrieve_async(listed.data[0].id)
    assert event.data.object["status"] == "requires_payment_method"
    assert event.request is not None
    answered = intent.last_response
    assert answered is not None
    assert (event.request.id, event.request.idempotency_key) == (answered.request_id, answered.idempotency_key)


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ],
)
async def test_a_declined_card_raises_and_leaves_the_intent_open(
    sandbox: Sandbox, card: str, code: str, decline_code: str
) -> None:
    """The SDK raises CardError with the intent in it; another card can be tried, and both attempts are on record."""
    intent = await sandbox.intent()
    with pytest.raises(stripe.CardError) as caught:
        await sandbox.api.v1.payment_intents.confirm_async(intent.id, {"payment_method": card})
    error = caught.value.error
    assert error is not None
    assert (caught.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    assert error.payment_intent is not None
    assert error.payment_intent.status == "requires_payment_method"
    assert error.payment_intent.last_payment_error is not None
    assert error.payment_intent.last_payment_error.code == code
    await sandbox.api.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    charges = await sandbox.api.v1.charges.list_async({"payment_intent": intent.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]
    assert await sandbox.event_types() == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


@pytest.mark.parametrize("card", ["4000002500003155", "4000002760003184"])
async def test_authentication_comes_before_the_charge(sandbox: Sandbox, card: str) -> None:
    """A card that needs authentication charges nothing until it is given."""
    intent = await sandbox.intent()
    assert (await sandbox.pay(intent.id, card))["next_action"]["type"] == "use_stripe_sdk"
    assert (await sandbox.get("/_sandbox/ledger"))["charges"]["count"] == 0
    await sandbox.act(f"payment_intents/{intent.id}/authenticate", {"outcome": "fail"}, 402)
    failed = await sandbox.api.v1.payment_intents.retrieve_async(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    await sandbox.pay(intent.id, card)
    done = await sandbox.act(f"payment_intents/{intent.id}/authenticate", {"outcome": "success"})
    assert done["status"] == "succeeded"
    types = await sandbox.event_types()
    assert types.count("payment_intent.requires_action") == 2
    assert types[-2:] == ["charge.succeeded", "payment_intent.succeeded"]


async def test_off_session_payments_cannot_ask_for_authentication(sandbox: Sandbox) -> None:
    """Nobody is there to authenticate, so the card is declined."""
    with pytest.raises(stripe.CardError) as caught:
        await sandbox.intent(confirm=True, off_session=True, payment_method="pm_card_authenticationRequired")
    assert caught.value.code == "authentication_required"


async def test_a_processing_payment_is_settled_later(sandbox: Sandbox) -> None:
    """Processing is announced; settling decides the same charge."""
    intent = await sandbox.intent()
    await sandbox.act(f"payment_intents/{intent.id}/pay", {"processing": True})
    assert (await sandbox.act(f"payment_intents/{intent.id}/settle", {"outcome": "success"}))["status"] == "succeeded"
    assert "payment_intent.processing" in await sandbox.event_types()
    assert len((await sandbox.api.v1.charges.list_async()).data) == 1


async def test_reserved_money_is_captured_or_let_go(sandbox: Sandbox) -> None:
    """capture_method=manual reserves; capture takes up to that amount; cancel lets it go."""
    api = sandbox.api.v1.payment_intents
    first = await sandbox.intent(capture_method="manual", confirm=True, payment_method="pm_card_visa")
    assert (first.status, first.amount_capturable, first.amount_received) == ("requires_capture", 1299, 0)
    with pytest.raises(stripe.InvalidRequestError, match="not between"):
        await api.capture_async(first.id, {"amount_to_capture": 1300})
    taken = await api.capture_async(first.id, {"amount_to_capture": 1000})
    assert (taken.status, taken.amount_received) == ("succeeded", 1000)
    second = await sandbox.intent(capture_method="manual", confirm=True, payment_method="pm_card_visa")
    assert (await api.cancel_async(second.id, {"cancellation_reason": "abandoned"})).status == "canceled"
    assert (await sandbox.get("/_sandbox/ledger"))["charges"] == {
        "count": 1,
        "amount": 1000,
        "by_currency": {"usd": 1000},
    }


async def test_a_succeeded_intent_cannot_be_canceled(sandbox: Sandbox) -> None:
    """The error says why and carries the intent; so does a second payment's; a canceled intent cannot be paid."""
    api = sandbox.api.v1.payment_intents
    intent = await sandbox.intent(confirm=True, payment_method="pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await api.cancel_async(intent.id)
    assert caught.value.code == "payment_intent_unexpected_state"
    assert caught.value.error is not None
    assert caught.value.error.payment_intent is not None
    assert caught.value.error.payment_intent.status == "succeeded"
    assert (await sandbox.pay(intent.id, status=400))["error"]["code"] == "payment_intent_unexpected_state"
    other = await sandbox.intent()
    await api.cancel_async(other.id)
    with pytest.raises(stripe.InvalidRequestError, match="canceled"):
        await api.confirm_async(other.id, {"payment_method": "pm_card_visa"})
    assert (await sandbox.get("/_sandbox/ledger"))["charges"]["count"] == 1


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -5}, "parameter_invalid_integer", "amount"),
        ({"amount": "12.99"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10**9}, "amount_too_large", "amount"),
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"currency": "USD"}, "parameter_invalid_enum", "currency"),
        ({"currency": "xyz"}, "parameter_invalid_enum", "currency"),
        ({"nonsense": "1"}, "parameter_unknown", "nonsense"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"shipping": {"address": {"planet": "Mars"}}}, "parameter_unknown", "shipping[address][planet]"),
        ({"expand": ["client_secret"]}, None, "expand"),
    ],
)
async def test_bad_parameters_are_named_and_write_nothing(
    sandbox: Sandbox, params: dict[str, Any], code: str | None, param: str
) -> None:
    """InvalidRequestError says which parameter, as the client wrote it."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await sandbox.intent(**params)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)
    assert await sandbox.event_types() == []
    assert (await sandbox.api.v1.payment_intents.list_async()).data == []


async def test_missing_things_and_wrong_keys(sandbox: Sandbox) -> None:
    """404 for an id in the path or an address that is not there, 401 for another key, and a request id on each."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await sandbox.api.v1.payment_intents.retrieve_async("pi_none")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    assert str(caught.value.request_id).startswith("req_")
    stranger = stripe.StripeClient("sk_other", base_addresses={"api": sandbox.url}, http_client=stripe.HTTPXClient())
    with pytest.raises(stripe.AuthenticationError):
        await stranger.v1.customers.list_async()
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await sandbox.api.v1.payouts.list_async()
    assert unknown.value.http_status == 404


async def test_refunds_never_exceed_the_charge(sandbox: Sandbox) -> None:
    """Partial, then too much, then the rest, then nothing is left."""
    intent = await sandbox.intent(confirm=True, payment_method="pm_card_visa")
    api = sandbox.api.v1.refunds
    part = await api.create_async({"payment_intent": intent.id, "amount": 300, "reason": "requested_by_customer"})
    assert (part.status, part.amount, part.charge) == ("succeeded", 300, intent.latest_charge)
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        await api.create_async({"payment_intent": intent.id, "amount": 1000})
    assert (too_much.value.code, too_much.value.param) == ("amount_too_large", "amount")
    rest = await api.create_async({"charge": str(intent.latest_charge), "metadata": {"why": "rest"}})
    assert rest.amount == 999
    with pytest.raises(stripe.InvalidRequestError) as again:
        await api.create_async({"payment_intent": intent.id})
    assert again.value.code == "charge_already_refunded"
    assert [refund.id for refund in (await api.list_async({"payment_intent": intent.id})).data] == [rest.id, part.id]
    assert (await sandbox.api.v1.refunds.retrieve_async(rest.id)).to_dict()["metadata"] == {"why": "rest"}
    charge = await sandbox.api.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.refunded, charge.amount_refunded) == (True, 1299)
    order = (await sandbox.get("/_sandbox/ledger"))["orders"]["o-1"]
    assert (order["charged"], order["refunded"], order["refunds"]) == (1299, 1299, 2)
    assert (await sandbox.event_types())[-4:] == ["charge.refunded", "refund.created"] * 2


async def test_a_refund_can_fail_later(sandbox: Sandbox) -> None:
    """The card's bank sends the money back: refund.failed, and it can be refunded again."""
    intent = await sandbox.intent(confirm=True, payment_method="pm_card_refundFail")
    refund = await sandbox.api.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    sandbox.clock.ahead += 3
    await sandbox.intent()  # any commit makes the dispatcher look at the clock
    await sandbox.receiver.wait_for("refund.failed")
    failed = await sandbox.api.v1.refunds.retrieve_async(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    charge = await sandbox.api.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (0, False)


async def test_an_unpaid_intent_has_nothing_to_refund(sandbox: Sandbox) -> None:
    """Refunding needs a charge that was taken."""
    intent = await sandbox.intent()
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        await sandbox.api.v1.refunds.create_async({"payment_intent": intent.id})


async def test_an_intent_is_changed_until_it_is_paid(sandbox: Sandbox) -> None:
    """Amount and method while it is open; metadata always; the amount never after the money was taken."""
    api = sandbox.api.v1.payment_intents
    intent = await sandbox.intent()
    changed = await api.update_async(intent.id, {"amount": 2000, "payment_method": "pm_card_mastercard"})
    assert (changed.amount, changed.status) == (2000, "requires_confirmation")
    assert (await api.confirm_async(intent.id)).amount_received == 2000
    with pytest.raises(stripe.InvalidRequestError) as caught:
        await api.update_async(intent.id, {"amount": 3000})
    assert caught.value.code == "payment_intent_unexpected_state"
    noted = await api.update_async(intent.id, {"metadata": {"note": "x"}})
    assert noted.to_dict()["metadata"] == {"order_id": "o-1", "note": "x"}


async def test_the_bank_has_the_last_word(sandbox: Sandbox) -> None:
    """Settled with "fail", a processing payment is declined, and a refund is taken back from the charge."""
    api = sandbox.api.v1
    intent = await sandbox.intent()
    await sandbox.act(f"payment_intents/{intent.id}/pay", {"processing": True})
    failed = await sandbox.act(f"payment_intents/{intent.id}/settle", {"outcome": "fail"}, 402)
    assert failed["error"]["payment_intent"]["status"] == "requires_payment_method"
    await sandbox.pay(intent.id)
    refund = await api.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    await api.refunds.update_async(refund.id, {"metadata": {"ticket": "7"}})
    settled = await sandbox.act(f"refunds/{refund.id}/settle", {"outcome": "fail"})
    assert (settled["status"], settled["metadata"]) == ("failed", {"ticket": "7"})
    assert (await sandbox.get("/_sandbox/ledger"))["refunds"]["amount"] == 0
    assert (await sandbox.event_types())[-3:] == ["refund.updated", "refund.updated", "refund.failed"]
    await sandbox.act(f"refunds/{refund.id}/settle", {"outcome": "maybe"}, 400)


async def test_raw_form_encoding_and_headers(sandbox: Sandbox) -> None:
    """`a[]` arrays, the version echoed, a request id on every answer; JSON bodies and broken names are refused."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": "2026-07-29.dahlia"}
    form = {"amount": "500", "currency": "eur", "payment_method_types[]": "card", "metadata[a b]": "c&d=é"}
    made = await sandbox.http.post("/v1/payment_intents", data=form, headers=headers)
    assert made.status_code == 200, made.text
    assert made.json()["metadata"] == {"a b": "c&d=é"}
    assert made.json()["payment_method_types"] == ["card"]
    assert made.headers["stripe-version"] == "2026-07-29.dahlia"
    assert made.headers["request-id"].startswith("req_")
    for bad in (
        {"json": {"amount": 500}},
        {"data": {"amount[": "5"}},
        {"data": {"shipping": "x", "shipping[name]": "y"}},
    ):
        answer = await sandbox.http.post("/v1/payment_intents", headers=headers, **bad)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    large = await sandbox.http.post("/v1/payment_intents", headers=headers, data={"description": "x" * 1_100_000})
    assert large.status_code == 400
    basic = await sandbox.http.get("/v1/customers", auth=httpx.BasicAuth(API_KEY, ""))
    assert basic.status_code == 200


async def test_the_overview_escapes_what_clients_wrote(sandbox: Sandbox) -> None:
    """The page shows intents and deliveries, and runs nobody's script; it is alive without a key."""
    intent = await sandbox.intent(metadata={"order_id": "<script>alert(1)</script>"})
    shown = (await sandbox.http.get("/")).text
    assert intent.id in shown
    assert "<script>" not in shown
    assert (await sandbox.http.get("/livez")).status_code == 200
