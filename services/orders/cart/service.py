"""The cart's use cases."""

from datetime import UTC, datetime

import asyncpg

from reliability import idempotency
from reliability.context import client_address
from reliability.errors import FieldError, NotFound, Unavailable, ValidationFailed
from reliability.ids import is_id
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.orders.cart import repository
from services.orders.cart.domain import (
    MAX_QUANTITY,
    Cart,
    CartItem,
    CatalogEntry,
    Owner,
    price_changes,
    shortages,
)
from services.orders.cart.repository import Added
from services.orders.cart.schemas import CartCheck, CartView
from services.orders.catalog import Catalog
from services.orders.coupon import repository as coupons
from services.orders.coupon.domain import normalise, refusal
from services.orders.errors import CartEmpty, CartFull, CouponRefused, UnknownCoupon, UnknownVariant
from services.orders.order import repository as orders
from services.orders.shipping import HOME

__all__ = ["CartService"]

_MAX_LINES = 50
# What catalog looks up and holds at once: two full carts that became one can still be ordered.
_MAX_MERGED = 100
_log = get_logger(__name__)


class CartService:
    """One open cart per customer; a guest's belongs to whoever holds the signed cookie."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def show(self, owner: Owner, country: str = HOME) -> CartView:
        """The cart at today's prices, which are recorded as shown, with what changed since it was shown last.

        While catalog is away, at the last known prices, and without a word on stock.
        """
        if not owner.scope:
            return CartView.of(None, country=country)
        async with self._database.connection() as connection:
            cart = await repository.find(connection, owner)
        if cart is None or not cart.items:
            return CartView.of(cart, country=country)
        try:
            entries = await self._catalog.entries(cart.quantities())
        except Unavailable:
            _log.warning("cart_shown_without_catalog", cart_id=cart.id)
            return CartView.of(cart, country=country)
        check = CartCheck(entries, [*shortages(cart, entries), *price_changes(cart, entries)])
        if not all(_is_current(item, entries.get(item.variant_id)) for item in cart.items):
            async with self._database.transaction("show prices") as connection:
                await repository.show_prices(connection, cart.id, list(entries.values()))
                cart = await repository.find(connection, owner)
        return CartView.of(cart, check, country=country)

    async def add(self, owner: Owner, variant_id: str, quantity: int) -> CartView:
        """Adds pieces of a variant, in a new cart when there is none. Raises `UnknownVariant`, `CartFull`."""
        entry = (await self._catalog.entries([variant_id])).get(variant_id)
        if entry is not None and idempotency.current.get() is None:
            cart = await self._add_at_once(owner, entry, quantity)
            if cart is not None:
                return CartView.of(cart)
        async with self._database.transaction("add to cart") as connection:
            claim = await idempotency.claim(connection, owner.scope or f"guest:{client_address.get()}")
            if entry is None:
                message = f"There is no product variant {variant_id}."
                raise UnknownVariant(message, errors=[{"pointer": "/variant_id", "message": "does not exist"}])
            try:
                added = await repository.add(connection, owner, entry, quantity)
            except asyncpg.CheckViolationError:
                raise _too_many() from None
            cart = await repository.find(connection, Owner(owner.customer_id, added.cart_id))
            _refuse_too_much(cart, added, entry)
            view = CartView.of(cart)
            await claim.store(connection, 201, view)
            return view

    async def _add_at_once(self, owner: Owner, entry: CatalogEntry, quantity: int) -> Cart | None:
        """The usual way, where one statement is all of it; None when somebody has to look first."""
        async with self._database.connection() as connection:
            if not owner.scope:  # a guest's first pieces: nobody else knows this cart yet
                added = await repository.add(connection, owner, entry, quantity)
                return Cart(added.cart_id, (added.item,))
            try:
                return await repository.add_at_once(connection, owner, entry, quantity, _MAX_LINES)
            except asyncpg.CheckViolationError:
                raise _too_many() from None

    async def change(self, owner: Owner, item_id: str, quantity: int) -> CartView:
        """Sets a line's quantity. Raises `NotFound`."""
        async with self._database.transaction("change cart") as connection:
            claim = await idempotency.claim(connection, owner.scope or "nobody")
            cart = await self._own(connection, owner, item_id)
            if not await repository.change_item(connection, cart.id, item_id, quantity):
                raise NotFound
            view = CartView.of(await repository.find(connection, owner))
            await claim.store(connection, 200, view)
            return view

    async def remove(self, owner: Owner, item_id: str) -> CartView:
        """Takes a line out. Raises `NotFound`."""
        async with self._database.transaction("remove from cart") as connection:
            cart = await self._own(connection, owner, item_id)
            if not await repository.remove_item(connection, cart.id, item_id):
                raise NotFound
            return CartView.of(await repository.find(connection, owner))

    async def clear(self, owner: Owner) -> None:
        """Takes everything out."""
        if not owner.scope:
            return
        async with self._database.transaction("clear cart") as connection:
            if cart := await repository.lock(connection, owner):
                await repository.clear(connection, cart.id)

    async def merge(self, owner: Owner) -> CartView:
        """Moves the cart a customer filled as a guest into the customer's own; the second call finds nothing to move.

        A guest's cart whose order waits for payment stays what it is: it ends with that order. Raises `CartFull`.
        """
        async with self._database.transaction("merge carts") as connection:
            claim = await idempotency.claim(connection, owner.scope)
            guest = await repository.lock(connection, Owner(cart_id=owner.cart_id)) if owner.cart_id else None
            if guest and guest.items and await orders.live_of_cart(connection, guest.id) is None:
                await self._move(connection, guest, owner)
            view = CartView.of(await repository.find(connection, owner))
            await claim.store(connection, 200, view)
            return view

    async def _move(self, connection: Connection, guest: Cart, owner: Owner) -> None:
        cart = await repository.lock(connection, owner)
        cart = cart or Cart(await repository.create(connection, owner.customer_id))
        if len({*cart.quantities(), *guest.quantities()}) > _MAX_MERGED:
            raise CartFull(f"Together the two carts hold more than {_MAX_MERGED} products.")
        if cart.items and cart.currency != guest.currency:
            raise CartFull(f"A cart holds one currency: {cart.currency} here, {guest.currency} there.")
        await repository.merge(connection, guest.id, cart.id, MAX_QUANTITY)

    async def set_coupon(self, owner: Owner, code: str) -> CartView:
        """Puts a coupon into the cart. Raises `UnknownCoupon`, `CouponRefused`, `CartEmpty`."""
        async with self._database.transaction("set coupon") as connection:
            claim = await idempotency.claim(connection, owner.scope or "nobody")
            cart = await repository.lock(connection, owner) if owner.scope else None
            if cart is None or not cart.items:
                raise CartEmpty("Put something into the cart first.")
            coupon = await coupons.by_code(connection, normalise(code))
            if coupon is None:
                errors = [{"pointer": "/code", "message": "does not exist"}]
                raise UnknownCoupon(f"There is no coupon {normalise(code)}.", errors=errors)
            used = await coupons.used(connection, coupon.id, owner.customer_id, "") if owner.customer_id else 0
            reason = refusal(coupon, cart.subtotal, cart.currency, datetime.now(UTC), used=used)
            if reason:
                raise CouponRefused(f"{coupon.code} does not apply: {reason}.", reason=reason)
            await repository.set_coupon(connection, cart.id, coupon.id)
            view = CartView.of(await repository.find(connection, owner))
            await claim.store(connection, 200, view)
            return view

    async def drop_coupon(self, owner: Owner) -> CartView:
        """Takes the coupon out, if there is one."""
        if not owner.scope:
            return CartView.of(None)
        async with self._database.transaction("drop coupon") as connection:
            if cart := await repository.lock(connection, owner):
                await repository.set_coupon(connection, cart.id, None)
            return CartView.of(await repository.find(connection, owner))

    async def _own(self, connection: Connection, owner: Owner, item_id: str) -> Cart:
        cart = await repository.lock(connection, owner) if owner.scope and is_id(item_id) else None
        if cart is None:
            raise NotFound
        return cart


def _is_current(item: CartItem, entry: CatalogEntry | None) -> bool:
    shown = (item.unit_price, item.currency, item.title)
    return entry is None or shown == (entry.unit_price, entry.currency, entry.title)


def _too_many() -> ValidationFailed:
    return ValidationFailed([FieldError("/quantity", f"a cart holds at most {MAX_QUANTITY} of one product")])


def _refuse_too_much(cart: Cart | None, added: Added, entry: CatalogEntry) -> None:
    """Looks at the cart with what was added; what is refused is rolled back."""
    assert cart is not None  # its row is locked
    if added.fresh and len(cart.items) > _MAX_LINES:
        raise ValidationFailed([FieldError("/variant_id", f"a cart holds at most {_MAX_LINES} products")])
    others = {item.currency for item in cart.items if item.id != added.item.id}
    if others and others != {entry.currency}:
        message = f"is sold in {entry.currency}, the cart in {others.pop()}"
        raise ValidationFailed([FieldError("/variant_id", message)])
