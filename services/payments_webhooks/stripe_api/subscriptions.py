"""Subscriptions at Stripe, and the prices they are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import stripe

from services.payments_webhooks.errors import SubscriptionRefused
from services.payments_webhooks.stripe_api.calls import Calls

if TYPE_CHECKING:
    from stripe.params import InvoicePayParams, SubscriptionCreateParams, SubscriptionUpdateParams

__all__ = ["NewAtStripe", "Subscriptions"]

_PAGE: Final = 100
_OVER: Final = {"canceled", "incomplete_expired"}
# The secret that Stripe.js pays the first invoice with is shown only when it is asked for.
_SECRET: Final = "latest_invoice.confirmation_secret"  # noqa: S105 - a path  # nosec B105


@dataclass(frozen=True, slots=True)
class NewAtStripe:
    """The same at every repetition, or Stripe refuses the key."""

    customer_id: str
    price_id: str
    payment_method_id: str | None
    metadata: Mapping[str, str]


class Subscriptions:
    """The calls on subscriptions."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.subscriptions
        self._invoices = calls.client.v1.invoices
        self._prices = calls.client.v1.prices

    async def price(self, lookup_key: str) -> stripe.Price | None:
        """The recurring price that carries a lookup key, with its product; None when none does."""
        page = await self._call(
            "stripe.prices.list",
            lambda: self._prices.list_async(
                {"lookup_keys": [lookup_key], "type": "recurring", "expand": ["data.product"], "limit": 1}
            ),
        )
        return next((price for price in page.data if price.active), None)

    async def create(self, key: str, new: NewAtStripe) -> stripe.Subscription:
        """A subscription: charged to the saved card at once, all or nothing; without one it waits to be paid.

        Raises `Unavailable`, `ReplayedFailure`, `SubscriptionRefused`.
        """
        params: SubscriptionCreateParams = {
            "customer": new.customer_id,
            "items": [{"price": new.price_id}],
            "metadata": dict(new.metadata),
            "payment_behavior": "default_incomplete",
            "payment_settings": {"save_default_payment_method": "on_subscription"},
            "expand": [_SECRET],
        }
        if new.payment_method_id is not None:
            params["default_payment_method"] = new.payment_method_id
            params["payment_behavior"] = "error_if_incomplete"
            params["off_session"] = True
        try:
            return await self._call(
                "stripe.subscriptions.create", lambda: self._api.create_async(params, {"idempotency_key": key})
            )
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            raise SubscriptionRefused(error.user_message or "") from error

    async def retrieve(self, stripe_id: str) -> stripe.Subscription:
        """A subscription as it is now, whether or not it has ended."""
        return await self._call(
            "stripe.subscriptions.retrieve", lambda: self._api.retrieve_async(stripe_id, {"expand": [_SECRET]})
        )

    async def pay(self, key: str, stripe_id: str, payment_method_id: str) -> stripe.Subscription:
        """Charges a saved card what an incomplete one waits for; one that is no longer incomplete is given as it is.

        Its invoice is paid once, whoever pays it. Raises `Unavailable`, `ReplayedFailure`, `SubscriptionRefused`.

        Source: https://docs.stripe.com/billing/subscriptions/overview#subscription-statuses
        """
        found = await self.retrieve(stripe_id)
        invoice = found.latest_invoice
        if found.status != "incomplete" or invoice is None:
            return found
        params: InvoicePayParams = {"payment_method": payment_method_id, "off_session": True}
        invoice_id = invoice if isinstance(invoice, str) else invoice.id
        try:
            await self._call(
                "stripe.invoices.pay",
                lambda: self._invoices.pay_async(str(invoice_id), params, {"idempotency_key": key}),
            )
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            found = await self.retrieve(stripe_id)
            if found.status == "incomplete":
                raise SubscriptionRefused(error.user_message or "") from error
            return found  # somebody paid it on our page meanwhile
        return await self.retrieve(stripe_id)

    async def find(self, customer_id: str, subscription_id: str) -> stripe.Subscription | None:
        """The customer's subscription that carries our id, if Stripe has one."""
        page = await self._call(
            "stripe.subscriptions.list",
            lambda: self._api.list_async({"customer": customer_id, "status": "all", "limit": _PAGE}),
        )
        while True:
            for each in page.data:
                kept = each.metadata
                if "subscription_id" in kept and kept["subscription_id"] == subscription_id:
                    return await self.retrieve(each.id)
            if not page.has_more:
                return None
            page = await self._call("stripe.subscriptions.list", page.next_page_async)

    async def set_ending(self, key: str, stripe_id: str, *, ending: bool) -> stripe.Subscription:
        """Lets it end with its period, or go on; one that is over stays so and is given as it is."""
        params: SubscriptionUpdateParams = {"cancel_at_period_end": ending}
        try:
            return await self._call(
                "stripe.subscriptions.update",
                lambda: self._api.update_async(stripe_id, params, {"idempotency_key": key}),
            )
        except stripe.InvalidRequestError:
            found = await self.retrieve(stripe_id)
            if found.status not in _OVER:
                raise
            return found

    async def cancel(self, stripe_id: str) -> stripe.Subscription:
        """Ends it now; once more is no error."""
        try:
            return await self._call("stripe.subscriptions.cancel", lambda: self._api.cancel_async(stripe_id))
        except stripe.InvalidRequestError:
            found = await self.retrieve(stripe_id)
            if found.status not in _OVER:
                raise
            return found
