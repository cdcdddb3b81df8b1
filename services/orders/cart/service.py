"""The cart's use cases."""

from reliability import idempotency
from reliability.context import client_address
from reliability.errors import FieldError, NotFound, Unavailable, ValidationFailed
from reliability.ids import is_id
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.orders.cart import repository
from services.orders.cart.domain import Cart, CartItem, CatalogEntry
from services.orders.cart.schemas import CartView
from services.orders.catalog import Catalog
from services.orders.errors import UnknownVariant

__all__ = ["CartService"]

_MAX_QUANTITY = 100
_MAX_LINES = 50
_log = get_logger(__name__)


class CartService:
    """Carts belong to whoever holds the signed cookie."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    async def show(self, cart_id: str | None) -> Cart | None:
        """The cart at today's prices, which are recorded as shown; at the last known ones when catalog is away."""
        async with self._database.connection() as connection:
            cart = await repository.find(connection, cart_id) if cart_id else None
        if cart is None or not cart.items:
            return cart
        try:
            entries = await self._catalog.entries(cart.quantities())
        except Unavailable:
            _log.warning("cart_shown_without_catalog", cart_id=cart.id)
            return cart
        if all(_is_current(item, entries.get(item.variant_id)) for item in cart.items):
            return cart
        async with self._database.transaction("show prices") as connection:
            await repository.show_prices(connection, cart.id, list(entries.values()))
            return await repository.find(connection, cart.id)

    async def add(self, cart_id: str | None, variant_id: str, quantity: int) -> tuple[str, CartView]:
        """Adds pieces of a variant, in a new cart when there is none. Raises `UnknownVariant`."""
        entry = (await self._catalog.entries([variant_id])).get(variant_id)
        async with self._database.transaction("add to cart") as connection:
            claim = await idempotency.claim(connection, cart_id or f"guest:{client_address.get()}")
            if entry is None:
                message = f"There is no product variant {variant_id}."
                raise UnknownVariant(message, errors=[{"pointer": "/variant_id", "message": "does not exist"}])
            cart = await repository.lock(connection, cart_id) if cart_id else None
            cart = cart or Cart(await repository.create(connection))
            _refuse_too_much(cart, entry, quantity)
            await repository.add_item(connection, cart.id, entry, quantity)
            view = CartView.of(await repository.find(connection, cart.id))
            await claim.store(connection, 201, view.model_dump(mode="json"))
            return cart.id, view

    async def change(self, cart_id: str | None, item_id: str, quantity: int) -> CartView:
        """Sets a line's quantity. Raises `NotFound`."""
        async with self._database.transaction("change cart") as connection:
            claim = await idempotency.claim(connection, cart_id or "nobody")
            cart = await self._own(connection, cart_id, item_id)
            if not await repository.change_item(connection, cart.id, item_id, quantity):
                raise NotFound
            view = CartView.of(await repository.find(connection, cart.id))
            await claim.store(connection, 200, view.model_dump(mode="json"))
            return view

    async def remove(self, cart_id: str | None, item_id: str) -> CartView:
        """Takes a line out. Raises `NotFound`."""
        async with self._database.transaction("remove from cart") as connection:
            cart = await self._own(connection, cart_id, item_id)
            if not await repository.remove_item(connection, cart.id, item_id):
                raise NotFound
            return CartView.of(await repository.find(connection, cart.id))

    async def clear(self, cart_id: str | None) -> None:
        """Takes everything out."""
        if cart_id is None:
            return
        async with self._database.transaction("clear cart") as connection:
            if await repository.lock(connection, cart_id):
                await repository.clear(connection, cart_id)

    async def _own(self, connection: Connection, cart_id: str | None, item_id: str) -> Cart:
        cart = await repository.lock(connection, cart_id) if cart_id and is_id(item_id) else None
        if cart is None:
            raise NotFound
        return cart


def _is_current(item: CartItem, entry: CatalogEntry | None) -> bool:
    shown = (item.unit_price, item.currency, item.title)
    return entry is None or shown == (entry.unit_price, entry.currency, entry.title)


def _refuse_too_much(cart: Cart, entry: CatalogEntry, quantity: int) -> None:
    pieces = cart.quantities()
    if pieces.get(entry.variant_id, 0) + quantity > _MAX_QUANTITY:
        raise ValidationFailed([FieldError("/quantity", f"a cart holds at most {_MAX_QUANTITY} of one product")])
    if entry.variant_id not in pieces and len(pieces) >= _MAX_LINES:
        raise ValidationFailed([FieldError("/variant_id", f"a cart holds at most {_MAX_LINES} products")])
