"""The checkout over HTTP."""

from typing import Final

from reliability.asgi import Answer, Call, Endpoint, KeyRule
from reliability.context import client_address
from reliability.errors import RateLimited
from reliability.rate_limit import CHECKOUT, Algorithm, Policy, RateLimiter, client_key
from services.orders.cart.owners import Owners
from services.orders.checkout.domain import Details
from services.orders.checkout.schemas import CheckoutView, PlaceOrder, TokenQuery
from services.orders.checkout.service import CheckoutService

__all__ = ["CheckoutRoutes"]

# A school or an office is one address; whoever tries out stolen cards makes a new cart for each.
_BY_CLIENT: Final = Policy("checkout-client", 600, 60, Algorithm.GCRA, burst=300)


class CheckoutRoutes:
    """Decode, call, encode."""

    def __init__(self, service: CheckoutService, owners: Owners, limiter: RateLimiter) -> None:
        self._service = service
        self._owners = owners
        self._limiter = limiter

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint(
                "POST",
                "/api/checkout",
                self._place,
                key=KeyRule.REQUIRED,
                body=PlaceOrder,
                answer=CheckoutView,
                status=201,
                problems=(RateLimited,),
            ),
            Endpoint("GET", "/api/checkout/{id}", self._show, query=TokenQuery, answer=CheckoutView),
            Endpoint("POST", "/api/checkout/{id}/cancel", self._cancel, query=TokenQuery, answer=CheckoutView),
        ]

    async def _place(self, call: Call) -> Answer:
        owner = await self._owners.of(call.request)
        by_client = (_BY_CLIENT, client_key(client_address.get()))
        limits = await self._limiter.check([(CHECKOUT, owner.scope), by_client] if owner.scope else [by_client])
        order: PlaceOrder = call.body
        details = Details(order.email, order.shipping_address.model_dump(), order.shipping_method, order.note or "")
        return Answer(await self._service.place(owner, details), status=201, headers=limits)

    async def _show(self, call: Call) -> Answer:
        return Answer(await self._service.show(call.path("id"), call.query.token))

    async def _cancel(self, call: Call) -> Answer:
        # No key is needed: the order's own state replays the answer.
        return Answer(await self._service.cancel(call.path("id"), call.query.token))
