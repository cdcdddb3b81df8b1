"""The way of every call to Stripe: eight seconds in all, a breaker, and one layer that tries again.

The SDK's own retries are off. Two layers would multiply, and its layer knows neither our deadline nor the budget.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import stripe
from opentelemetry.trace import SpanKind

from reliability import deadline
from reliability.circuit_breaker import CircuitBreaker, Outcome, Rules, judge
from reliability.errors import Problem, Unavailable
from reliability.logging import get_logger
from reliability.retry import RetryBudget, retry
from reliability.telemetry import span
from services.payments_webhooks.errors import AmountRefused, PaymentRefused
from services.payments_webhooks.stripe_api.transport import Transport

__all__ = ["Calls", "ReplayedFailure", "refused", "tag", "too_old"]

T = TypeVar("T")

_log = get_logger(__name__)

# Stripe forgets keys after 24 h: from here on a repetition could have its effect twice, so we look first.
_KEY_LIFE: Final = timedelta(hours=20)
# Each attempt counts, and there are three to a call: two calls that fail, not one, are what opens it.
_RULES: Final = Rules(failures=5)
_BASE: Final = 0.2
_CAP: Final = 2.0
# The breaker must see a call that hangs fail, so its time is up a moment before that of all attempts together.
_MARGIN: Final = 0.05
# Who comes with less time than this says nothing about Stripe.
_LEAST: Final = 0.5
# How long our calls take we measure ourselves; Stripe need not be told with each of them what machine this is.
stripe.enable_telemetry = False


class ReplayedFailure(Exception):
    """This idempotency key is of no use any more: only a lookup tells what happened under it.

    Stripe stored a 500 under it and will answer that for a day, or it was used before with other parameters.

    Source: https://docs.stripe.com/api/idempotent_requests
    """


class Calls:
    """One account's calls. What they give is the SDK's; what they raise is ours, or an answer of Stripe's (4xx)."""

    def __init__(self, api_key: str, base: str) -> None:
        self.client = stripe.StripeClient(
            api_key,
            base_addresses={"api": base},
            http_client=Transport(timeout=deadline.EXTERNAL_CAP),
            max_network_retries=0,
        )
        self.breaker = CircuitBreaker("stripe", _RULES, judge=_judge)
        self._budget = RetryBudget()

    async def __call__(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        """`call()`, which must be repeatable: a read, or a write under an idempotency key.

        Raises `Unavailable` (`CircuitOpen`), `DeadlineExceeded`, `ReplayedFailure`, or what Stripe answered.
        """
        try:
            return await retry(
                lambda: self._attempt(step, call),
                idempotent=True,
                step=step,
                base=_BASE,
                cap=_CAP,
                seconds=deadline.EXTERNAL_CAP,
                least=_LEAST,
                budget=self._budget,
            )
        except stripe.IdempotencyError as error:
            raise ReplayedFailure(step) from error
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            # A wrong key is ours to put right: what was asked for may still be done then.
            _log.error("stripe_refuses_our_key", step=step, code=error.code)
            raise Unavailable("Payments are not possible at the moment.") from error
        except (stripe.APIConnectionError, stripe.RateLimitError) as error:
            raise Unavailable("Stripe could not be reached; try again in a moment.") from error
        except stripe.APIError as error:
            if _replayed(error):
                raise ReplayedFailure(step) from error
            raise Unavailable("Stripe had an error; try again in a moment.") from error

    async def _attempt(self, step: str, call: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            async with deadline.limit(deadline.remaining(deadline.EXTERNAL_CAP) - _MARGIN, step):
                return await call()

        with span(step, SpanKind.CLIENT, server_address="stripe"):
            return await self.breaker.call(bounded)


def too_old(made_at: datetime) -> bool:
    """Whether Stripe may have forgotten an idempotency key that is as old as this."""
    return datetime.now(UTC) - made_at > _KEY_LIFE


def refused(error: stripe.InvalidRequestError) -> Problem:
    """What Stripe refuses to begin, and will refuse again: nothing came of it, and the order cannot be paid so."""
    kind = AmountRefused if error.code in {"amount_too_small", "amount_too_large"} else PaymentRefused
    return kind(error.user_message or "")


def tag(thing: "stripe.PaymentIntent | stripe.Refund", name: str) -> str | None:
    """What we gave Stripe to keep with an object."""
    kept = thing.metadata
    return str(kept[name]) if kept is not None and name in kept else None


def _judge(error: Exception) -> Outcome:
    """Stripe is down when it does not answer or answers 5xx; what it refuses, it answers. A replay is an answer too."""
    match error:
        case stripe.APIConnectionError() | stripe.RateLimitError():
            return Outcome.FAILED
        case stripe.StripeError():
            broken = (error.http_status or 0) >= 500 and not _replayed(error)
            return Outcome.FAILED if broken else Outcome.SUCCEEDED
        case _:
            return judge(error)


def _replayed(error: stripe.StripeError) -> bool:
    return _header(error.headers, "idempotent-replayed") == "true"


def _header(headers: Mapping[str, Any] | None, name: str) -> str:
    return next((str(value) for key, value in (headers or {}).items() if key.lower() == name), "")
