"""/v1/invoices: how a subscription asks for its money. Made by subscriptions, never directly."""

from typing import Any

from sandbox.stripe import ids, invoice_payments
from sandbox.stripe.errors import Json
from sandbox.stripe.forms import names
from sandbox.stripe.ledger import Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.shapes import LIST_PARAMS, changes, envelope, filters, listing

_URL = "/v1/invoices"
_RETRY_SECONDS = 3 * 86_400


def build(ledger: Ledger, subscription: Json, reason: str, now: int) -> Json:
    """An open invoice for the current period of a subscription."""
    invoice_id = ids.new("in")
    lines = [_line(invoice_id, subscription, item) for item in subscription["items"]["data"]]
    total = sum(line["amount"] for line in lines)
    customer = ledger.require("customer", subscription["customer"])
    period = subscription["items"]["data"][0]
    invoice: Json = {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": None,
        "account_tax_ids": None,
        "amount_due": total,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": total,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": now,
        "ending_balance": 0,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": envelope(lines, f"{_URL}/{invoice_id}/lines"),
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}",
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
            "type": "subscription_details",
        },
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": period["current_period_start"],
        "period_start": period["current_period_start"],
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "open",
        "status_transitions": {
            "finalized_at": now,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "test_clock": subscription["test_clock"],
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }
    customer["next_invoice_sequence"] += 1
    ledger.store.save(customer)
    ledger.store.insert(invoice)
    ledger.emit("invoice.created", invoice)
    ledger.emit("invoice.finalized", invoice)
    return invoice


def _line(invoice_id: str, subscription: Json, item: Json) -> Json:
    price, quantity = item["price"], item["quantity"]
    return {
        "id": ids.new("il"),
        "object": "line_item",
        "amount": price["unit_amount"] * quantity,
        "currency": price["currency"],
        "description": f"{quantity} x {price['product']}",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice_id,
        "livemode": False,
        "metadata": subscription["metadata"],
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": {"credited_items": None},
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"end": item["current_period_end"], "start": item["current_period_start"]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "subtotal": price["unit_amount"] * quantity,
        "taxes": [],
    }


def paid_by(ledger: Ledger, intent: Json) -> None:
    """An intent has succeeded: so has the invoice it is there for, if it is one's, and the subscription goes on."""
    link = invoice_payments.of_intent(ledger, intent["id"])
    if link is None:
        return
    invoice = ledger.require("invoice", link["invoice"])
    link.update(status="paid", amount_paid=intent["amount_received"])
    link["status_transitions"]["paid_at"] = ledger.now
    ledger.store.save(link)
    _attempted(invoice, status="paid", amount_paid=invoice["amount_due"], amount_remaining=0, auto_advance=False)
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"]["paid_at"] = ledger.now
    ledger.store.save(invoice)
    ledger.emit("invoice.paid", invoice)
    ledger.emit("invoice.payment_succeeded", invoice)
    subscription = _subscription_of(ledger, invoice)
    changed: dict[str, Any] = {"status": "active"}
    if subscription["payment_settings"]["save_default_payment_method"] == "on_subscription":
        changed["default_payment_method"] = intent["payment_method"]
    if subscription["status"] in {"incomplete", "past_due", "active"}:
        _change(ledger, subscription, changed)


def failed_by(ledger: Ledger, intent: Json) -> None:
    """An intent was refused: the invoice stays open, a renewal makes its subscription past due."""
    link = invoice_payments.of_intent(ledger, intent["id"])
    if link is None:
        return
    invoice = ledger.require("invoice", link["invoice"])
    renewal = invoice["billing_reason"] == "subscription_cycle"
    _attempted(invoice, next_payment_attempt=ledger.now + _RETRY_SECONDS if renewal else None)
    ledger.store.save(invoice)
    ledger.emit("invoice.payment_failed", invoice)
    subscription = _subscription_of(ledger, invoice)
    if renewal and subscription["status"] == "active":
        _change(ledger, subscription, {"status": "past_due"})


def intent_of(ledger: Ledger, invoice: Json) -> Json | None:
    """What pays an invoice."""
    for link in ledger.store.every("invoice_payment"):
        if link["invoice"] == invoice["id"]:
            return ledger.store.get("payment_intent", link["payment"]["payment_intent"])
    return None


def _attempted(invoice: Json, **changed: Any) -> None:
    invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1, **changed)


def _subscription_of(ledger: Ledger, invoice: Json) -> Json:
    return ledger.require("subscription", invoice["parent"]["subscription_details"]["subscription"])


def _change(ledger: Ledger, subscription: Json, changed: dict[str, Any]) -> None:
    before = dict(subscription)
    subscription.update(changed)
    if differences := changes(before, subscription):
        ledger.store.save(subscription)
        ledger.emit("customer.subscription.updated", subscription, differences)


def retrieve(call: Call) -> Json:
    """One invoice."""
    return call.ledger.require("invoice", call.path["id"], "invoice")


def index(call: Call) -> Json:
    """Invoices, newest first."""
    known = {
        "customer": "customer",
        "status": "status",
        "subscription": "parent.subscription_details.subscription",
        "collection_method": "collection_method",
    }
    return listing(call, "invoice", _URL, filters(call.params, known))


OPERATIONS = (
    Operation("GET", _URL, index, names(LIST_PARAMS, "customer status subscription collection_method")),
    Operation("GET", f"{_URL}/{{id}}", retrieve, names("")),
)
