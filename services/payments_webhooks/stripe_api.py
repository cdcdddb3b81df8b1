"""Stripe through its own SDK: one deadline for each call, and errors in our words."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import stripe
from opentelemetry.trace import SpanKind

from reliability import deadline
from reliability.errors import Unavailable
from reliability.telemetry import span
from services.payments_webhooks.errors import AmountRefused

__all__ = ["ReplayedFailure", "Stripe"]

T = TypeVar("T")


class ReplayedFailure(Exception):
    """Stripe stored a 500 under this idempotency key and will answer it for a day: only a lookup tells what happened.

    Source: https://docs.stripe.com/api/idempotent_requests
    """


class Stripe:
    """The calls we make. Each write carries an idempotency key that is a row of ours, so each may be repeated."""

    def __init__(self, api_key: str, base: str) -> None:
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": base},
            http_client=stripe.HTTPXClient(timeout=deadline.EXTERNAL_CAP),
            # The SDK repeats with the same key; the deadline around it ends that.
            max_network_retries=2,
        )

    async def create_intent(
        self, key: str, amount: int, currency: str, email: str, metadata: Mapping[str, str]
    ) -> stripe.PaymentIntent:
        """A payment intent, amount in minor units. Raises `Unavailable`, `ReplayedFailure`, `AmountRefused`."""
        try:
            return await self._call(
                "stripe.payment_intents.create",
                lambda: self._client.v1.payment_intents.create_async(
                    {
                        "amount": amount,
                        "currency": currency.lower(),
                        "receipt_email": email,
                        "metadata": dict(metadata),
                        "automatic_payment_methods": {"enabled": True},
                    },
                    {"idempotency_key": key},
                ),
            )
        except stripe.InvalidRequestError as error:
            if error.code not in {"amount_too_small", "amount_too_large"}:
                raise
            raise AmountRefused(error.user_message or "") from error

    async def find_intent(self, payment_id: str) -> stripe.PaymentIntent | None:
        """The intent that carries our payment's id, if Stripe has one."""
        found = await self._call(
            "stripe.payment_intents.search",
            lambda: self._client.v1.payment_intents.search_async(
                {"query": f"metadata['payment_id']:'{payment_id}'", "limit": 1}
            ),
        )
        return next(iter(found.data), None)

    async def cancel_intent(self, intent_id: str) -> str:
        """Cancels an intent if Stripe lets us; the intent's status after that."""
        try:
            intent = await self._call(
                "stripe.payment_intents.cancel", lambda: self._client.v1.payment_intents.cancel_async(intent_id)
            )
        except stripe.InvalidRequestError as error:
            if error.code != "payment_intent_unexpected_state":
                raise
            intent = await self._call(
                "stripe.payment_intents.retrieve", lambda: self._client.v1.payment_intents.retrieve_async(intent_id)
            )
        return str(intent.status)

    async def create_refund(self, key: str, intent_id: str, amount: int, metadata: Mapping[str, str]) -> stripe.Refund:
        """A refund, amount in minor units."""
        return await self._call(
            "stripe.refunds.create",
            lambda: self._client.v1.refunds.create_async(
                {"payment_intent": intent_id, "amount": amount, "metadata": dict(metadata)}, {"idempotency_key": key}
            ),
        )

    async def _call(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        with span(step, SpanKind.CLIENT, server_address="stripe"):
            try:
                async with deadline.limit(deadline.EXTERNAL_CAP, step):
                    return await call()
            except (stripe.APIConnectionError, stripe.RateLimitError) as error:
                raise Unavailable("Stripe could not be reached; try again in a moment.") from error
            except stripe.APIError as error:
                if _header(error.headers, "idempotent-replayed") == "true":
                    raise ReplayedFailure(step) from error
                raise Unavailable("Stripe had an error; try again in a moment.") from error


def _header(headers: Mapping[str, Any] | None, name: str) -> str:
    return next((str(value) for key, value in (headers or {}).items() if key.lower() == name), "")
