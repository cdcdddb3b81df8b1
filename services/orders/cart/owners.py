"""Whose cart a request speaks of."""

from starlette.requests import Request

from reliability.asgi import Authenticate, refuse_foreign_origin
from reliability.context import principal
from services.orders.cart.cookie import CART_COOKIE, Signer
from services.orders.cart.domain import Owner

__all__ = ["Owners"]


class Owners:
    """Reads the session, if there is one, and the guest's cookie."""

    def __init__(self, authenticate: Authenticate, signer: Signer, public_url: str) -> None:
        self._authenticate = authenticate
        self._signer = signer
        self._public_url = public_url

    async def of(self, request: Request) -> Owner:
        """The owner. Raises `Unauthenticated` for a session that is no longer good: nobody becomes a guest unasked."""
        cookie = request.cookies.get(CART_COOKIE)
        if cookie:
            refuse_foreign_origin(request, self._public_url)
        who = await self._authenticate(request)
        principal.set(who)
        cart_id = self._signer.read_cart(cookie)
        return Owner(who.id, cart_id, who.email, who.name) if who else Owner(cart_id=cart_id)
