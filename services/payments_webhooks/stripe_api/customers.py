"""Customers and their saved cards at Stripe."""

from typing import TYPE_CHECKING

import stripe

from services.payments_webhooks.stripe_api.calls import Calls

if TYPE_CHECKING:
    from stripe.params import PaymentMethodListParams

__all__ = ["Customers"]

_GONE = {"resource_missing"}


class Customers:
    """The calls on customers and payment methods."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.customers
        self._methods = calls.client.v1.payment_methods

    async def create(self, key: str, account_id: str, email: str) -> stripe.Customer:
        """A customer of ours. Raises `Unavailable`, `ReplayedFailure`."""
        return await self._call(
            "stripe.customers.create",
            lambda: self._api.create_async(
                {"email": email, "metadata": {"account_id": account_id}}, {"idempotency_key": key}
            ),
        )

    async def find(self, account_id: str) -> stripe.Customer | None:
        """The customer that carries our account's id, if Stripe has one."""
        found = await self._call(
            "stripe.customers.search",
            lambda: self._api.search_async({"query": f"metadata['account_id']:'{account_id}'", "limit": 1}),
        )
        return next(iter(found.data), None)

    async def methods(self, customer_id: str, limit: int, after: str | None) -> tuple[list[stripe.PaymentMethod], bool]:
        """A page of a customer's cards, newest first, and whether there are more."""
        params: PaymentMethodListParams = {"customer": customer_id, "type": "card", "limit": limit}
        if after is not None:
            params["starting_after"] = after
        page = await self._call("stripe.payment_methods.list", lambda: self._methods.list_async(params))
        return list(page.data), page.has_more

    async def method(self, method_id: str) -> stripe.PaymentMethod | None:
        """A card, if there is one of that name."""
        try:
            return await self._call("stripe.payment_methods.retrieve", lambda: self._methods.retrieve_async(method_id))
        except stripe.InvalidRequestError as error:
            if error.code not in _GONE:
                raise
            return None

    async def detach(self, method_id: str) -> None:
        """Takes a card from its customer; it can never be used again. Once more is no error."""
        try:
            await self._call("stripe.payment_methods.detach", lambda: self._methods.detach_async(method_id))
        except stripe.InvalidRequestError:
            left = await self.method(method_id)
            if left is not None and left.customer is not None:
                raise
