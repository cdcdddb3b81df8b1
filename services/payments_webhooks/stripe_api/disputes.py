"""Disputes at Stripe."""

import stripe

from services.payments_webhooks.stripe_api.calls import Calls

__all__ = ["Disputes"]


class Disputes:
    """The calls on disputes."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.disputes

    async def retrieve(self, dispute_id: str) -> stripe.Dispute:
        """A dispute as it is now."""
        return await self._call("stripe.disputes.retrieve", lambda: self._api.retrieve_async(dispute_id))
