"""The cart over HTTP."""

import orjson

from reliability import idempotency
from reliability.asgi import Access, Answer, Call, Endpoint
from services.orders.cart.cookie import Signer
from services.orders.cart.domain import Owner
from services.orders.cart.owners import Owners
from services.orders.cart.schemas import AddItem, CartQuery, CartView, ChangeItem, SetCoupon
from services.orders.cart.service import CartService

__all__ = ["CartRoutes"]


class CartRoutes:
    """Decode, call, encode."""

    def __init__(self, service: CartService, owners: Owners, signer: Signer) -> None:
        self._service = service
        self._owners = owners
        self._signer = signer

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint("GET", "/api/cart", self._show, query=CartQuery, answer=CartView),
            Endpoint("DELETE", "/api/cart", self._clear, status=204),
            Endpoint("POST", "/api/cart/items", self._add, body=AddItem, answer=CartView, status=201),
            Endpoint("PATCH", "/api/cart/items/{id}", self._change, body=ChangeItem, answer=CartView),
            Endpoint("DELETE", "/api/cart/items/{id}", self._remove, answer=CartView),
            Endpoint("POST", "/api/cart/coupon", self._set_coupon, body=SetCoupon, answer=CartView),
            Endpoint("DELETE", "/api/cart/coupon", self._drop_coupon, answer=CartView),
            Endpoint("POST", "/api/cart/merge", self._merge, access=Access.CUSTOMER, answer=CartView),
        ]

    async def _show(self, call: Call) -> Answer:
        return Answer(await self._service.show(await self._owners.of(call.request), call.query.country))

    async def _clear(self, call: Call) -> Answer:
        await self._service.clear(await self._owners.of(call.request))
        return Answer(status=204)

    async def _add(self, call: Call) -> Answer:
        owner = await self._owners.of(call.request)
        try:
            view = await self._service.add(owner, str(call.body.variant_id), call.body.quantity)
        except idempotency.Replay as replay:
            # A guest whose first answer was lost has no cookie yet: the replay must bring it.
            cookie = self._cookie(owner, orjson.loads(replay.body)["id"])
            raise idempotency.Replay(replay.status, {**replay.headers, **cookie}, replay.body) from None
        return Answer(view, status=201, headers=self._cookie(owner, view.id or ""))

    def _cookie(self, owner: Owner, cart_id: str) -> dict[str, str]:
        """A customer needs none: the session names the cart."""
        return {} if owner.customer_id else {"set-cookie": self._signer.cart_cookie(cart_id)}

    async def _change(self, call: Call) -> Answer:
        owner = await self._owners.of(call.request)
        return Answer(await self._service.change(owner, call.path("id"), call.body.quantity))

    async def _remove(self, call: Call) -> Answer:
        return Answer(await self._service.remove(await self._owners.of(call.request), call.path("id")))

    async def _set_coupon(self, call: Call) -> Answer:
        return Answer(await self._service.set_coupon(await self._owners.of(call.request), call.body.code))

    async def _drop_coupon(self, call: Call) -> Answer:
        return Answer(await self._service.drop_coupon(await self._owners.of(call.request)))

    async def _merge(self, call: Call) -> Answer:
        # The guest's cookie stays: it opens nothing any more, and an order that waits for payment still needs it.
        return Answer(await self._service.merge(await self._owners.of(call.request)))
