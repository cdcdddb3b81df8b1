"""The cart over HTTP."""

import orjson

from reliability import idempotency
from reliability.asgi import Answer, Call, Endpoint, refuse_foreign_origin
from services.orders.cart.cookie import CART_COOKIE, Signer
from services.orders.cart.schemas import AddItem, CartView, ChangeItem
from services.orders.cart.service import CartService

__all__ = ["CartRoutes"]


class CartRoutes:
    """Decode, call, encode."""

    def __init__(self, service: CartService, signer: Signer, public_url: str) -> None:
        self._service = service
        self._signer = signer
        self._public_url = public_url

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint("GET", "/api/cart", self._show, answer=CartView),
            Endpoint("DELETE", "/api/cart", self._clear, status=204),
            Endpoint("POST", "/api/cart/items", self._add, body=AddItem, answer=CartView, status=201),
            Endpoint("PATCH", "/api/cart/items/{id}", self._change, body=ChangeItem, answer=CartView),
            Endpoint("DELETE", "/api/cart/items/{id}", self._remove, answer=CartView),
        ]

    def _cart_id(self, call: Call) -> str | None:
        cookie = call.request.cookies.get(CART_COOKIE)
        if cookie:
            refuse_foreign_origin(call.request, self._public_url)
        return self._signer.read_cart(cookie)

    async def _show(self, call: Call) -> Answer:
        return Answer(CartView.of(await self._service.show(self._cart_id(call))))

    async def _clear(self, call: Call) -> Answer:
        await self._service.clear(self._cart_id(call))
        return Answer(status=204)

    async def _add(self, call: Call) -> Answer:
        try:
            cart_id, view = await self._service.add(self._cart_id(call), str(call.body.variant_id), call.body.quantity)
        except idempotency.Replay as replay:
            # A guest whose first answer was lost has no cookie yet: the replay must bring it.
            cookie = self._signer.cart_cookie(orjson.loads(replay.body)["id"])
            raise idempotency.Replay(replay.status, {**replay.headers, "set-cookie": cookie}, replay.body) from None
        return Answer(view, status=201, cookies=(self._signer.cart_cookie(cart_id),))

    async def _change(self, call: Call) -> Answer:
        return Answer(await self._service.change(self._cart_id(call), call.path("id"), call.body.quantity))

    async def _remove(self, call: Call) -> Answer:
        return Answer(await self._service.remove(self._cart_id(call), call.path("id")))
