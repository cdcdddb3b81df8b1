"""Stripe through its own SDK, in our words: each write may be repeated, each call ends, and none hides behind another.

Events are read with the version of the API that the SDK pins; so are the answers to our own calls.
"""

from reliability.circuit_breaker import CircuitBreaker
from services.payments_webhooks.stripe_api.calls import Calls, ReplayedFailure, too_old
from services.payments_webhooks.stripe_api.customers import Customers
from services.payments_webhooks.stripe_api.disputes import Disputes
from services.payments_webhooks.stripe_api.events import LISTED, Events
from services.payments_webhooks.stripe_api.intents import Intents
from services.payments_webhooks.stripe_api.invoices import Invoices
from services.payments_webhooks.stripe_api.refunds import Refunds
from services.payments_webhooks.stripe_api.sessions import NewSession, Sessions
from services.payments_webhooks.stripe_api.subscriptions import NewAtStripe, Subscriptions

__all__ = ["LISTED", "NewAtStripe", "NewSession", "ReplayedFailure", "Stripe", "too_old"]


class Stripe:
    """The account we charge with. One breaker and one retry budget for all of it: it is one dependency."""

    def __init__(self, api_key: str, base: str) -> None:
        calls = Calls(api_key, base)
        self.breaker: CircuitBreaker = calls.breaker
        self.customers = Customers(calls)
        self.disputes = Disputes(calls)
        self.events = Events(calls)
        self.intents = Intents(calls)
        self.invoices = Invoices(calls)
        self.refunds = Refunds(calls)
        self.sessions = Sessions(calls)
        self.subscriptions = Subscriptions(calls)
