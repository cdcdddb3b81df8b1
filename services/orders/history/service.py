"""What a customer may ask and do about orders of their own; anybody else's do not exist."""

from reliability import idempotency
from reliability.errors import NotFound
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.orders.cart import repository as carts
from services.orders.cart.domain import MAX_QUANTITY, Cart, CatalogEntry, Owner
from services.orders.cart.schemas import CartView
from services.orders.catalog import Catalog
from services.orders.history import repository
from services.orders.history.domain import Spending
from services.orders.history.schemas import MissingView, OrderView, ReorderView
from services.orders.order import repository as orders
from services.orders.order.cancellation import CancellationService
from services.orders.order.domain import Order
from services.orders.refund import repository as refunds

__all__ = ["HistoryService"]


class HistoryService:
    """Reads, cancels, buys again."""

    def __init__(self, database: Database, catalog: Catalog, cancellation: CancellationService) -> None:
        self._database = database
        self._catalog = catalog
        self._cancellation = cancellation

    async def orders(self, customer_id: str, after: str | None, limit: int) -> list[Order]:
        """Newest first, from behind the order `after`; one more than `limit` when there are more."""
        async with self._database.connection() as connection:
            return await orders.of_customer(connection, customer_id, after, limit + 1)

    async def order(self, customer_id: str, order_id: str) -> OrderView:
        """One of them with its timeline. Raises `NotFound`."""
        async with self._database.connection() as connection:
            order = await _own(connection, customer_id, order_id)
        if order.ending:
            order = await self._cancellation.finish(order)
        async with self._database.connection() as connection:
            return await self._view(connection, order)

    async def spending(self, customer_id: str, currency: str) -> Spending:
        """What the customer spent."""
        async with self._database.connection() as connection:
            return await repository.spending(connection, customer_id, currency)

    async def cancel(self, customer_id: str, order_id: str) -> OrderView:
        """Ends an order that was not paid. Raises `NotFound`, `PaymentInProgress`, `CheckoutClosed`."""
        if not is_id(order_id):
            raise NotFound
        return await self._cancellation.by_customer(order_id, self._view, customer_id=customer_id)

    async def reorder(self, customer_id: str, order_id: str) -> ReorderView:
        """Puts an order's lines into the customer's cart, those that are still sold. Raises `NotFound`."""
        async with self._database.connection() as connection:
            order = await _own(connection, customer_id, order_id)
        entries = await self._catalog.entries(order.quantities())
        async with self._database.transaction("reorder") as connection:
            claim = await idempotency.claim(connection, f"customer:{customer_id}")
            missing = await self._refill(connection, Owner(customer_id), order, entries)
            cart = CartView.of(await carts.find(connection, Owner(customer_id)))
            view = ReorderView(cart=cart, unavailable=missing)
            await claim.store(connection, 200, view.model_dump(mode="json"))
            return view

    async def _refill(
        self, connection: Connection, owner: Owner, order: Order, entries: dict[str, CatalogEntry]
    ) -> list[MissingView]:
        cart = await carts.lock(connection, owner) or Cart(await carts.create(connection, owner.customer_id))
        there, missing = cart.quantities(), []
        for line in order.lines:
            entry = entries.get(line.variant_id)
            room = MAX_QUANTITY - there.get(line.variant_id, 0)
            quantity = min(line.quantity, room, entry.available if entry else 0)
            if entry is not None and quantity > 0:
                await carts.add(connection, owner, entry, quantity)
            if quantity < line.quantity:
                missing.append(MissingView(variant_id=line.variant_id, title=line.title, reason=_why(entry, quantity)))
        return missing

    async def _view(self, connection: Connection, order: Order) -> OrderView:
        refunded = await refunds.refunded(connection, order.id)
        return OrderView.detailed(order, refunded, await repository.timeline(connection, order.id))


async def _own(connection: Connection, customer_id: str, order_id: str) -> Order:
    order = await orders.find(connection, order_id) if is_id(order_id) else None
    if order is None or order.customer_id != customer_id:
        raise NotFound
    return order


def _why(entry: CatalogEntry | None, quantity: int) -> str:
    if entry is None:
        return "no longer sold"
    return f"only {max(quantity, 0)} could be put into the cart"
