"""Refunds at Stripe."""

from collections.abc import Mapping
from typing import Final

import stripe

from services.payments_webhooks.stripe_api.calls import Calls, tag

__all__ = ["Refunds"]

_PAGE: Final = 100


class Refunds:
    """The calls on refunds."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.refunds

    async def create(self, key: str, intent_id: str, amount: int, metadata: Mapping[str, str]) -> stripe.Refund:
        """A refund, amount in minor units. Raises `Unavailable`, `ReplayedFailure`."""
        return await self._call(
            "stripe.refunds.create",
            lambda: self._api.create_async(
                {"payment_intent": intent_id, "amount": amount, "metadata": dict(metadata)}, {"idempotency_key": key}
            ),
        )

    async def of_intent(self, intent_id: str) -> list[stripe.Refund]:
        """Every refund of an intent, newest first."""
        page = await self._call(
            "stripe.refunds.list", lambda: self._api.list_async({"payment_intent": intent_id, "limit": _PAGE})
        )
        refunds = list(page.data)
        while page.has_more:
            page = await self._call("stripe.refunds.list", page.next_page_async)
            refunds += page.data
        return refunds

    async def find(self, refund_id: str, intent_id: str) -> stripe.Refund | None:
        """The refund that carries our refund's id, if Stripe has one."""
        refunds = await self.of_intent(intent_id)
        return next((refund for refund in refunds if tag(refund, "refund_id") == refund_id), None)
