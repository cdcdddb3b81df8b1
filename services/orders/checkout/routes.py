"""The checkout over HTTP."""

from reliability.asgi import Answer, Call, Endpoint, KeyRule
from services.orders.cart.owners import Owners
from services.orders.checkout.domain import Details
from services.orders.checkout.schemas import CheckoutView, PlaceOrder, TokenQuery
from services.orders.checkout.service import CheckoutService

__all__ = ["CheckoutRoutes"]


class CheckoutRoutes:
    """Decode, call, encode."""

    def __init__(self, service: CheckoutService, owners: Owners) -> None:
        self._service = service
        self._owners = owners

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
            ),
            Endpoint("GET", "/api/checkout/{id}", self._show, query=TokenQuery, answer=CheckoutView),
            Endpoint("POST", "/api/checkout/{id}/cancel", self._cancel, query=TokenQuery, answer=CheckoutView),
        ]

    async def _place(self, call: Call) -> Answer:
        owner = await self._owners.of(call.request)
        order: PlaceOrder = call.body
        details = Details(order.email, order.shipping_address.model_dump(), order.shipping_method, order.note or "")
        return Answer(await self._service.place(owner, details), status=201)

    async def _show(self, call: Call) -> Answer:
        return Answer(await self._service.show(call.path("id"), call.query.token))

    async def _cancel(self, call: Call) -> Answer:
        # No key is needed: the order's own state replays the answer.
        return Answer(await self._service.cancel(call.path("id"), call.query.token))
