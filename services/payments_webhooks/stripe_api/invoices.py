"""Invoices at Stripe, which are subscriptions' way to ask for money."""

import stripe

from services.payments_webhooks.stripe_api.calls import Calls

__all__ = ["Invoices"]


class Invoices:
    """The calls on invoices."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.invoices
        self._payments = calls.client.v1.invoice_payments

    async def retrieve(self, invoice_id: str) -> stripe.Invoice:
        """An invoice as it is now."""
        return await self._call("stripe.invoices.retrieve", lambda: self._api.retrieve_async(invoice_id))

    async def is_paid_by(self, intent_id: str) -> bool:
        """Whether an intent is there to pay an invoice. The intent itself does not say so."""
        page = await self._call(
            "stripe.invoice_payments.list",
            lambda: self._payments.list_async(
                {"payment": {"type": "payment_intent", "payment_intent": intent_id}, "limit": 1}
            ),
        )
        return bool(page.data)
