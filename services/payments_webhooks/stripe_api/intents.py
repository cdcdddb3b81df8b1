"""Payment intents at Stripe."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import stripe

from services.payments_webhooks.stripe_api.calls import Calls, refused, tag

if TYPE_CHECKING:
    from stripe.params import PaymentIntentCreateParams, PaymentIntentListParamsCreated, PaymentIntentUpdateParams

__all__ = ["Intents"]

# Stripe's search lags by up to a minute and its lists do not; lists cannot ask for metadata and search can.
_INDEXED: Final = timedelta(hours=1)
_SLACK: Final = timedelta(minutes=1)  # between our clock and theirs
_PAGE: Final = 100


class Intents:
    """The calls on payment intents."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._client = calls.client
        self._api = calls.client.v1.payment_intents

    async def create(
        self, key: str, amount: int, currency: str, email: str, metadata: Mapping[str, str]
    ) -> tuple[str, str]:
        """Id and client secret of a payment intent, amount in minor units.

        The answer stays as it came: every purchase waits for it, and to make an object of each of its parts takes the
        SDK three times as long as all else it does.

        Raises `Unavailable`, `ReplayedFailure`, `AmountRefused`, `PaymentRefused`.
        """
        params: PaymentIntentCreateParams = {
            "amount": amount,
            "currency": currency.lower(),
            "receipt_email": email,
            "metadata": dict(metadata),
            "automatic_payment_methods": {"enabled": True},
        }
        try:
            answer = await self._call(
                "stripe.payment_intents.create",
                lambda: self._client.raw_request_async("post", "/v1/payment_intents", idempotency_key=key, **params),
            )
        except stripe.InvalidRequestError as error:
            raise refused(error) from error
        return answer.data["id"], answer.data["client_secret"]

    async def retrieve(self, intent_id: str) -> stripe.PaymentIntent:
        """An intent as it is now."""
        return await self._call("stripe.payment_intents.retrieve", lambda: self._api.retrieve_async(intent_id))

    async def pages(self, since: datetime, until: datetime) -> AsyncIterator[list[stripe.PaymentIntent]]:
        """Every intent created from `since` to `until`, newest first, a page at a time."""
        created: PaymentIntentListParamsCreated = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        page = await self._call(
            "stripe.payment_intents.list", lambda: self._api.list_async({"created": created, "limit": _PAGE})
        )
        yield page.data
        while page.has_more:
            page = await self._call("stripe.payment_intents.list", page.next_page_async)
            yield page.data

    async def find(self, payment_id: str, since: datetime) -> stripe.PaymentIntent | None:
        """The intent that carries our payment's id, if Stripe has one; it cannot be older than `since`."""
        if datetime.now(UTC) - since > _INDEXED:
            return await self._search(payment_id)
        return await self._scan(payment_id, since)

    async def _search(self, payment_id: str) -> stripe.PaymentIntent | None:
        found = await self._call(
            "stripe.payment_intents.search",
            lambda: self._api.search_async({"query": f"metadata['payment_id']:'{payment_id}'", "limit": 1}),
        )
        return next(iter(found.data), None)

    async def _scan(self, payment_id: str, since: datetime) -> stripe.PaymentIntent | None:
        async for page in self.pages(since - _SLACK, datetime.now(UTC) + _SLACK):
            for intent in page:
                if tag(intent, "payment_id") == payment_id:
                    return intent
        return None

    async def cancel(self, intent_id: str) -> str:
        """Cancels an intent if Stripe lets us; the intent's status after that."""
        try:
            intent = await self._call("stripe.payment_intents.cancel", lambda: self._api.cancel_async(intent_id))
        except stripe.InvalidRequestError as error:
            if error.code != "payment_intent_unexpected_state":
                raise
            intent = await self.retrieve(intent_id)
        return str(intent.status)

    async def give_to(self, intent_id: str, customer_id: str, method_id: str | None) -> None:
        """Ties an open intent to a customer: what it is paid with is saved, or a saved card is put in."""
        params: PaymentIntentUpdateParams = {"customer": customer_id, "setup_future_usage": "on_session"}
        if method_id is not None:
            params["payment_method"] = method_id
        await self._call("stripe.payment_intents.update", lambda: self._api.update_async(intent_id, params))
