"""/v1/subscriptions: charged at once, then at the end of every period until somebody ends it.

incomplete ──first invoice paid──> active <──paid── past_due
    └──23 h──> incomplete_expired    │  └──renewal refused──^
                                     └──cancelled, now or at the period's end──> canceled
"""

import contextlib
from typing import Any

from sandbox.stripe import ids, invoice_payments, invoices, payment_intents, payments, periods, timers
from sandbox.stripe.errors import CardDeclined, InvalidParameter, InvalidState, Json, no_such
from sandbox.stripe.forms import Params, echo, names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, changes, envelope, filters, listing
from sandbox.stripe.store import Condition, field

_URL = "/v1/subscriptions"
_CREATING = names(
    "cancel_at_period_end collection_method customer default_payment_method description items metadata off_session "
    "payment_behavior payment_settings"
)
_UPDATABLE = names("cancel_at_period_end cancellation_details default_payment_method description metadata")
_BEHAVIORS = {"allow_incomplete", "default_incomplete", "error_if_incomplete"}
_COMPLETED_WITHIN_SECONDS = 23 * 3600
_RENEWED = ("active", "past_due")
_OVER = ("canceled", "incomplete_expired")


class _FirstPaymentDeclined(CardDeclined):
    """The caller wants all or nothing."""

    keeps_effects = False


def create(call: Call) -> Json:
    """Subscribe a customer to prices; the first invoice is due at once."""
    ledger, params = call.ledger, call.params
    params.require("customer", "items")
    params.choice("collection_method", {"charge_automatically"})
    behavior = params.choice("payment_behavior", _BEHAVIORS) or "allow_incomplete"
    customer = _customer(ledger, params)
    items = [_priced(ledger, item) for item in params.children("items")]
    if not items:
        params.refuse("items", "A subscription needs at least one item.")
    method = _method(ledger, params, customer)
    now = clock(ledger, customer["test_clock"])
    subscription = _build(params, customer, items, now)
    ledger.store.insert(subscription)
    ledger.emit("customer.subscription.created", subscription)
    timers.start(ledger.store, timers.Action.EXPIRE_SUBSCRIPTION, subscription["id"], now + _COMPLETED_WITHIN_SECONDS)
    intent = _bill(ledger, subscription, "subscription_create", now)
    if method is not None and behavior != "default_incomplete":
        _collect_first(ledger, intent, method, behavior)
    if customer["test_clock"] is None:
        _plan_renewal(ledger, subscription)
    return ledger.require("subscription", subscription["id"])


def _collect_first(ledger: Ledger, intent: Json, method: Json, behavior: str) -> None:
    try:
        payments.confirm(ledger, intent, method, payments.Confirmation(off_session=True))
    except CardDeclined as declined:
        if behavior != "error_if_incomplete":
            return
        raise _FirstPaymentDeclined(declined.message, code=declined.code, **declined.fields) from declined


def _customer(ledger: Ledger, params: Params) -> Json:
    customer_id = params.text("customer") or ""
    customer = ledger.store.get("customer", customer_id)
    if customer is None or customer.get("deleted"):
        raise no_such("customer", customer_id, "customer")
    return customer


def _method(ledger: Ledger, params: Params, customer: Json) -> Json | None:
    """What is charged: the subscription's own, or the customer's default."""
    given = params.text("default_payment_method") or customer["invoice_settings"]["default_payment_method"]
    if given is None:
        return None
    method = ledger.store.get("payment_method", given)
    if method is None:
        raise no_such("PaymentMethod", given, "default_payment_method")
    if method["customer"] != customer["id"]:
        raise InvalidState(
            "The customer does not have a payment method with the ID " + given + ". The payment method must be "
            "attached to the customer.",
            code="resource_missing",
            param="default_payment_method",
        )
    return method


def _priced(ledger: Ledger, item: Params) -> tuple[Json, int]:
    item.allow({"price", "quantity", "metadata"})
    item.require("price")
    price_id, quantity = item.text("price") or "", item.integer("quantity")
    price = ledger.store.get("price", price_id)
    if price is None:
        raise no_such("price", price_id, item.name("price"))
    if price["recurring"] is None:
        item.refuse("price", f"The price specified is set to `type=one_time` but must be recurring: {price_id}")
    if quantity is not None and quantity < 1:
        item.refuse("quantity", "This value must be greater than or equal to 1.", "parameter_invalid_integer")
    return price, quantity or 1


def _build(params: Params, customer: Json, items: list[tuple[Json, int]], now: int) -> Json:
    subscription_id, recurring = ids.new("sub"), items[0][0]["recurring"]
    if any(price["recurring"] != recurring or price["currency"] != items[0][0]["currency"] for price, _ in items):
        raise InvalidParameter("All prices of a subscription must have one interval and one currency here.")
    end = periods.end_after(now, recurring["interval"], recurring["interval_count"], now)
    listed = [_item(subscription_id, price, quantity, now, end) for price, quantity in items]
    settings = params.child("payment_settings")
    given = echo(settings) or {}
    return {
        "id": subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": None, "type": "classic"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": end if params.boolean("cancel_at_period_end") else None,
        "cancel_at_period_end": params.boolean("cancel_at_period_end"),
        "canceled_at": now if params.boolean("cancel_at_period_end") else None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": items[0][0]["currency"],
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": params.text("default_payment_method"),
        "default_source": None,
        "default_tax_rates": [],
        "description": params.text("description"),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None, "custom_fields": None, "description": None, "footer": None,
            "issuer": {"type": "self"},
        },
        "items": envelope(listed, f"/v1/subscription_items?subscription={subscription_id}"),
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": params.metadata(),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": given.get("payment_method_options"),
            "payment_method_types": given.get("payment_method_types"),
            "save_default_payment_method": given.get("save_default_payment_method", "off"),
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "incomplete",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }  # fmt: skip


def _item(subscription_id: str, price: Json, quantity: int, start: int, end: int) -> Json:
    return {
        "id": ids.new("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": start,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "price": price,
        "quantity": quantity,
        "subscription": subscription_id,
        "tax_rates": [],
    }


def _bill(ledger: Ledger, subscription: Json, reason: str, now: int) -> Json:
    """Invoice the current period; the intent that is to pay it."""
    invoice = invoices.build(ledger, subscription, reason, now)
    data = Params({"setup_future_usage": "off_session"})
    intent = payment_intents.build(ledger, data, invoice["amount_due"], invoice["currency"], subscription["customer"])
    invoice_payments.build(ledger, invoice, intent["id"])
    ledger.emit("payment_intent.created", intent)
    subscription["latest_invoice"] = invoice["id"]
    ledger.store.save(subscription)
    return intent


def clock(ledger: Ledger, test_clock: str | None) -> int:
    """What time it is for a customer: their test clock's, or everybody's."""
    if test_clock is None:
        return ledger.now
    return int(ledger.require("test_helpers.test_clock", test_clock)["frozen_time"])


def period_end(subscription: Json) -> int:
    """When the current period is over."""
    return int(subscription["items"]["data"][0]["current_period_end"])


def _plan_renewal(ledger: Ledger, subscription: Json) -> None:
    timers.start(ledger.store, timers.Action.RENEW_SUBSCRIPTION, subscription["id"], period_end(subscription))


def renew_by_time(ledger: Ledger, subscription_id: str) -> None:
    """The period is over; a subscription that was renewed early or ended meanwhile is left alone."""
    subscription = ledger.store.get("subscription", subscription_id)
    if subscription is not None and period_end(subscription) <= ledger.now:
        renew(ledger, subscription)


def renew(ledger: Ledger, subscription: Json) -> Json:
    """What happens at the end of a period: the next one is charged, or the subscription ends."""
    if subscription["status"] not in _RENEWED:
        return subscription
    if subscription["cancel_at_period_end"]:
        return _end(ledger, subscription, period_end(subscription))
    before, now = dict(subscription), period_end(subscription)
    recurring = subscription["items"]["data"][0]["price"]["recurring"]
    end = periods.end_after(
        subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], now
    )
    moved = [dict(item, current_period_start=now, current_period_end=end) for item in subscription["items"]["data"]]
    subscription["items"] = dict(subscription["items"], data=moved)
    intent = _bill(ledger, subscription, "subscription_cycle", now)
    ledger.emit("customer.subscription.updated", subscription, changes(before, subscription))
    _collect(ledger, subscription, intent)
    if subscription["test_clock"] is None:
        _plan_renewal(ledger, subscription)
    return ledger.require("subscription", subscription["id"])


def _collect(ledger: Ledger, subscription: Json, intent: Json) -> None:
    """Charges a renewal. Without a card to charge, that is a refusal too."""
    customer = ledger.require("customer", subscription["customer"])
    chosen = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"] or ""
    method = ledger.store.get("payment_method", chosen)
    if method is None or method["customer"] != customer["id"]:
        invoices.failed_by(ledger, intent)
        return
    with contextlib.suppress(CardDeclined):
        payments.confirm(ledger, intent, method, payments.Confirmation(off_session=True))


def expire_by_time(ledger: Ledger, subscription_id: str) -> None:
    """Nobody paid the first invoice within a day."""
    subscription = ledger.store.get("subscription", subscription_id)
    if subscription is None or subscription["status"] != "incomplete":
        return
    invoice = ledger.require("invoice", subscription["latest_invoice"])
    intent = invoices.intent_of(ledger, invoice)
    if intent is not None and intent["status"] in payments.CANCELABLE:
        payments.cancel(ledger, intent, None)
    invoice.update(status="void")
    invoice["status_transitions"]["voided_at"] = ledger.now
    ledger.store.save(invoice)
    ledger.emit("invoice.voided", invoice)
    before = dict(subscription)
    subscription.update(status="incomplete_expired", ended_at=ledger.now)
    ledger.store.save(subscription)
    ledger.emit("customer.subscription.updated", subscription, changes(before, subscription))


def _end(ledger: Ledger, subscription: Json, now: int) -> Json:
    subscription.update(
        status="canceled",
        ended_at=now,
        canceled_at=subscription["canceled_at"] or now,
        cancellation_details={"comment": None, "feedback": None, "reason": "cancellation_requested"},
    )
    ledger.store.save(subscription)
    ledger.emit("customer.subscription.deleted", subscription)
    return subscription


def retrieve(call: Call) -> Json:
    """One subscription."""
    return call.ledger.require("subscription", call.path["id"])


def update(call: Call) -> Json:
    """Let it end with its period or not, and whom to charge."""
    ledger, params, subscription = call.ledger, call.params, retrieve(call)
    if subscription["status"] in _OVER:
        raise InvalidState(
            "A canceled subscription can only update its cancellation_details and metadata.",
            code="resource_missing" if subscription["status"] == "incomplete_expired" else None,
        )
    customer = ledger.require("customer", subscription["customer"])
    changed: dict[str, Any] = {"metadata": params.metadata(subscription["metadata"])}
    if "default_payment_method" in params:
        _method(ledger, params, customer)
        changed["default_payment_method"] = params.text("default_payment_method")
    if "cancel_at_period_end" in params:
        ending = params.boolean("cancel_at_period_end")
        changed["cancel_at_period_end"] = ending
        changed["cancel_at"] = period_end(subscription) if ending else None
        changed["canceled_at"] = clock(ledger, subscription["test_clock"]) if ending else None
    before = dict(subscription)
    subscription.update(changed)
    ledger.store.save(subscription)
    if differences := changes(before, subscription):
        ledger.emit("customer.subscription.updated", subscription, differences)
    return subscription


def cancel(call: Call) -> Json:
    """End it now."""
    subscription = retrieve(call)
    if subscription["status"] in _OVER:
        raise InvalidState(f"No such subscription: '{subscription['id']}'", code="resource_missing", param="id")
    return _end(call.ledger, subscription, clock(call.ledger, subscription["test_clock"]))


def pay_invoice(call: Call) -> Json:
    """Try again to collect an invoice that is open."""
    ledger, invoice = call.ledger, invoices.retrieve(call)
    subscription = ledger.require("subscription", invoice["parent"]["subscription_details"]["subscription"])
    intent = invoices.intent_of(ledger, invoice)
    if invoice["status"] != "open" or intent is None:
        raise InvalidState("Invoice is already paid" if invoice["status"] == "paid" else "This invoice is not open.")
    method = _method(ledger, Params({"default_payment_method": call.params.text("payment_method")
        or subscription["default_payment_method"] or ""}), ledger.require("customer", invoice["customer"]))  # fmt: skip
    if method is None:
        raise InvalidState("There is no payment method to charge.", code="resource_missing", param="payment_method")
    payments.confirm(ledger, intent, method, payments.Confirmation(off_session=True))
    return ledger.require("invoice", invoice["id"])


def index(call: Call) -> Json:
    """Subscriptions, newest first; those that have ended only when they are asked for."""
    conditions = filters(call.params, {"customer": "customer", "test_clock": "test_clock"})
    status = call.params.text("status")
    if status is None:
        over = " AND ".join("json_extract(body, '$.status') <> ?" for _ in _OVER)
        conditions.append(Condition(f"({over})", _OVER))
    elif status != "all":
        conditions.append(field("status", status))
    return listing(call, "subscription", _URL, conditions)


OPERATIONS = (
    Operation("POST", _URL, create, _CREATING),
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer status test_clock")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
    Operation("POST", f"{_URL}/{{id}}", update, _UPDATABLE),
    Operation("DELETE", f"{_URL}/{{id}}", cancel, names("cancellation_details invoice_now prorate")),
    Operation("POST", "/v1/invoices/{id}/pay", pay_invoice, names("payment_method off_session")),
)
