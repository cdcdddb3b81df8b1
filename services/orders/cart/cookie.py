"""The signed cookie that lets a guest keep a cart, and the token that lets one see a checkout."""

import base64
import hashlib
import hmac
from http.cookies import SimpleCookie

from reliability.ids import is_id

__all__ = ["CART_COOKIE", "Signer"]

CART_COOKIE = "holdfast_cart"
_MAX_AGE = 30 * 24 * 3600


class Signer:
    """Signs with HMAC-SHA256 under one secret; each purpose has its own signature of the same id."""

    def __init__(self, secret: str, *, secure: bool) -> None:
        self._secret = secret.encode()
        self._secure = secure

    def sign(self, purpose: str, value: str) -> str:
        """URL-safe base64 without padding."""
        digest = hmac.new(self._secret, f"{purpose}:{value}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def verify(self, purpose: str, value: str, signature: str) -> bool:
        """Whether `signature` is ours, compared in constant time."""
        return hmac.compare_digest(self.sign(purpose, value).encode(), signature.encode())

    def read_cart(self, cookie: str | None) -> str | None:
        """The cart id in a cookie; None when there is none or it was tampered with."""
        cart_id, _, signature = (cookie or "").partition(".")
        return cart_id if is_id(cart_id) and self.verify("cart", cart_id, signature) else None

    def cart_cookie(self, cart_id: str) -> str:
        """A whole `Set-Cookie` value. `Secure` only where the shop is on https: else it never comes back."""
        cookie: SimpleCookie = SimpleCookie()
        cookie[CART_COOKIE] = f"{cart_id}.{self.sign('cart', cart_id)}"
        morsel = cookie[CART_COOKIE]
        morsel["path"], morsel["max-age"], morsel["samesite"], morsel["httponly"] = "/", _MAX_AGE, "Lax", True
        morsel["secure"] = self._secure
        return morsel.OutputString()
