"""Hosted payment pages at Stripe."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import stripe

from services.payments_webhooks.stripe_api.calls import Calls, refused

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams, SessionListParamsCreated

__all__ = ["NewSession", "Sessions"]

_SLACK: Final = timedelta(minutes=1)
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a page asks for; amount in minor units. The same at every repetition, or Stripe refuses the key."""

    reference: str
    title: str
    amount: int
    currency: str
    email: str
    return_url: str
    metadata: Mapping[str, str]


class Sessions:
    """The calls on checkout sessions."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.checkout.sessions

    async def create(self, key: str, new: NewSession) -> stripe.checkout.Session:
        """A page.

        Raises `Unavailable`, `ReplayedFailure`, `AmountRefused`, `PaymentRefused`.
        """
        params: SessionCreateParams = {
            "mode": "payment",
            "client_reference_id": new.reference,
            "customer_email": new.email,
            "line_items": [
                {
                    "price_data": {
                        "currency": new.currency.lower(),
                        "unit_amount": new.amount,
                        "product_data": {"name": new.title},
                    },
                    "quantity": 1,
                }
            ],
            "metadata": dict(new.metadata),
            "payment_intent_data": {"metadata": dict(new.metadata), "receipt_email": new.email},
            "success_url": new.return_url,
            "cancel_url": new.return_url,
        }
        try:
            return await self._call(
                "stripe.checkout.sessions.create", lambda: self._api.create_async(params, {"idempotency_key": key})
            )
        except stripe.InvalidRequestError as error:
            raise refused(error) from error

    async def retrieve(self, session_id: str) -> stripe.checkout.Session:
        """A page as it is now."""
        return await self._call("stripe.checkout.sessions.retrieve", lambda: self._api.retrieve_async(session_id))

    async def find(self, reference: str, since: datetime) -> stripe.checkout.Session | None:
        """The page that carries our reference, if Stripe has one; it cannot be older than `since`."""
        created: SessionListParamsCreated = {
            "gte": int((since - _SLACK).timestamp()),
            "lte": int((datetime.now(UTC) + _SLACK).timestamp()),
        }
        page = await self._call(
            "stripe.checkout.sessions.list", lambda: self._api.list_async({"created": created, "limit": _PAGE})
        )
        while True:
            for session in page.data:
                if session.client_reference_id == reference:
                    return session
            if not page.has_more:
                return None
            page = await self._call("stripe.checkout.sessions.list", page.next_page_async)

    async def expire(self, session_id: str) -> stripe.checkout.Session:
        """Closes a page if Stripe lets us; the page after that."""
        try:
            return await self._call("stripe.checkout.sessions.expire", lambda: self._api.expire_async(session_id))
        except stripe.InvalidRequestError:  # it is complete, or expired already
            return await self.retrieve(session_id)
