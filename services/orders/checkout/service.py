"""From cart to order.

    phase 1   find the cart                                                 (statement)
              ask catalog for today's prices, unless it has told lately,
              and whoever knows for the tax
    phase 2   claim the key, write the order `pending`                      (statement, recovery point `ordered`)
              hold the stock, if the prices are still these,
              create the payment intent                                     (each named by the order: repeatable)
    phase 3   store intent and answer                                       (statement)

That is the usual way: a cart without a coupon, and nobody else at it. In all other cases the key is claimed in phase 1,
and each phase is a transaction that looks what it finds. A process may die between any two of these: the same key, or
another key on the same cart, goes on from the order.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from reliability import idempotency
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem, Unprocessable
from reliability.idempotency import Claim
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.orders.cart import repository as carts
from services.orders.cart.cookie import Signer
from services.orders.cart.domain import Cart, Owner, price_changes, shortages
from services.orders.catalog import Catalog
from services.orders.checkout.domain import Details, Price, cart_differences, price
from services.orders.checkout.schemas import CheckoutView
from services.orders.coupon import repository as coupons
from services.orders.coupon.domain import Refusal, refusal
from services.orders.errors import CartChanged, CartEmpty, CheckoutClosed, OutOfStock, PaymentRefused, PriceChanged
from services.orders.order import repository as orders
from services.orders.order.cancellation import CancellationService
from services.orders.order.domain import Actor, Order, OrderStatus, StockState
from services.orders.payments import Payments
from services.orders.tax.domain import Destination, TaxProvider

__all__ = ["CheckoutService"]

# A little more than a request may take: a retry after a crash need not wait longer than that.
_LEASE_SECONDS = 10.0


class CheckoutService:
    """Places, shows and cancels checkouts."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        payments: Payments,
        cancellation: CancellationService,
        signer: Signer,
        taxes: TaxProvider,
        hold_ttl: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._payments = payments
        self._cancellation = cancellation
        self._signer = signer
        self._taxes = taxes
        self._hold_ttl = hold_ttl

    async def place(self, owner: Owner, details: Details) -> CheckoutView:
        """Orders what is in the cart; the same answer however often it is asked.

        Raises `CartEmpty`, `OutOfStock`, `PriceChanged`, `CartChanged`, `CheckoutClosed`.
        """
        view = await self._place_at_once(owner, details) or await self._place_in_steps(owner, details)
        crash_point("checkout.not_answered")
        return view

    async def _place_at_once(self, owner: Owner, details: Details) -> CheckoutView | None:
        """The usual way; None, with nothing done, when things are otherwise."""
        claim = idempotency.fresh(owner.scope)
        if claim is None or not owner.scope:
            return None
        async with self._database.connection() as connection:
            cart = await carts.find_unordered(connection, owner, claim)
        if cart is None or not cart.items or cart.coupon is not None:
            return None
        try:
            costs = await self._price(Claim(), cart, details)
        except Problem:
            # The pieces that are gone may be ours: the same click may have come twice, and the other one further.
            async with self._database.connection() as connection:
                if await carts.find_unordered(connection, owner, claim) is None:
                    return None
            raise
        placed = _new_order(owner, cart, details, costs)
        crash_point("checkout.priced")
        async with self._database.connection() as connection:
            order = await orders.insert_at_once(
                connection, placed, self._hold_ttl, cart.version, claim, lease_seconds=_LEASE_SECONDS
            )
        if order is None:
            return None
        crash_point("checkout.ordered")
        async with self._released_on_failure(claim):
            return await self._prepare(claim, order)

    async def _place_in_steps(self, owner: Owner, details: Details) -> CheckoutView:
        """Every other way."""
        claim, cart, order = await self._begin(owner, details)
        crash_point("checkout.claimed")
        async with self._released_on_failure(claim):
            if order is not None and order.ending and cart.items:
                order = await self._ended(order)
            if order is None:
                order = await self._order(claim, owner, cart, details, await self._price(claim, cart, details))
            return await self._prepare(claim, order)

    @asynccontextmanager
    async def _released_on_failure(self, claim: Claim) -> AsyncIterator[None]:
        """A failed attempt does not keep the next one waiting for its lease to end."""
        try:
            yield
        except Exception:
            async with self._database.transaction("release key") as connection:
                await claim.release(connection)
            raise

    async def _begin(self, owner: Owner, details: Details) -> tuple[Claim, Cart, Order | None]:
        """Phase 1. The order is there already when an earlier attempt, or another key, came further."""
        async with self._database.transaction("claim checkout") as connection:
            claim = await idempotency.claim(connection, owner.scope or "nobody", lease_seconds=_LEASE_SECONDS)
            if claim.recovery_point == orders.ORDERED:
                order = await orders.find(connection, claim.data["order_id"])
                if order is not None:
                    return claim, Cart(order.cart_id), order
            cart = await carts.find(connection, owner) if owner.scope else None
            if cart is None or not cart.items:
                raise CartEmpty("Put something into the cart first.")
            return claim, cart, await self._live_order(connection, cart, details)

    async def _ended(self, order: Order) -> Order | None:
        """Somebody was ending the cart's order and did not come to the end of it: None when it is over now."""
        now = await self._cancellation.finish(order)
        return None if now.status is OrderStatus.CANCELLED else now

    async def _live_order(self, connection: Connection, cart: Cart, details: Details) -> Order | None:
        order = await orders.live_of_cart(connection, cart.id)
        if order is None or order.ending:
            return order
        changes = (
            cart_differences(order.quantities(), cart.quantities())
            or _coupon_changed(order, cart)
            or _details_changed(order, details)
        )
        if changes:
            raise CartChanged(
                f"Order {order.number} is waiting for payment; pay it, or cancel its checkout first.",
                order_id=order.id,
                changes=changes,
            )
        return order

    async def _price(self, claim: Claim, cart: Cart, details: Details) -> Price:
        """What the order costs. Raises `OutOfStock`, `PriceChanged`, `CartChanged`, `UnknownRegion`, `NotShippable`."""
        entries = self._catalog.lately(cart.quantities())
        if shortages(cart, entries) or price_changes(cart, entries):  # or somebody has to ask
            entries = await self._catalog.entries(cart.quantities())
        now = datetime.now(UTC)
        if missing := shortages(cart, entries):
            await self._refuse(claim, OutOfStock(changes=missing))
        if moved := price_changes(cart, entries):
            await self._refuse(claim, PriceChanged(changes=moved))
        if reason := cart.refusal(now):
            await self._refuse(claim, _coupon_gone(cart, reason))
        try:
            net = price(cart, details, entries, now)
            destination = Destination.of(details.shipping_address)
            return net.with_taxes(await self._taxes.taxes(destination, net.taxables(), cart.currency))
        except Unprocessable as problem:
            await self._refuse(claim, problem)

    async def _order(self, claim: Claim, owner: Owner, cart: Cart, details: Details, costs: Price) -> Order:
        """Phase 2: the order is written, unless another request on this cart was first."""
        async with self._database.transaction("place order") as connection:
            now = await carts.lock(connection, owner)
            if now is None or not now.same_as(cart):
                differences = cart_differences(cart.quantities(), now.quantities() if now else {})
                raise CartChanged("The cart changed while the order was being placed.", changes=differences)
            order = await self._live_order(connection, now, details)
            if order is None:
                order = await orders.insert(connection, _new_order(owner, now, details, costs), self._hold_ttl)
                await self._redeem(connection, owner, now, details, order.id)
            await claim.advance(connection, orders.ORDERED, order_id=order.id)
            crash_point("checkout.order_not_committed")
            return order

    async def _redeem(self, connection: Connection, owner: Owner, cart: Cart, details: Details, order_id: str) -> None:
        """Counts the coupon's use with the order it is for. Its lock makes everybody else who uses it wait."""
        if cart.coupon is None:
            return
        coupon = await coupons.lock(connection, cart.coupon.id) or cart.coupon
        used = await coupons.used(connection, coupon.id, owner.customer_id, details.email)
        if reason := refusal(coupon, cart.subtotal, cart.currency, datetime.now(UTC), used=used):
            raise _coupon_gone(cart, reason)
        await coupons.redeem(connection, coupon.id, order_id, owner.customer_id, details.email)

    async def _prepare(self, claim: Claim, order: Order) -> CheckoutView:
        """Stock and intent, then phase 3."""
        if order.status is OrderStatus.CANCELLED:
            await self._refuse(claim, CheckoutClosed("This checkout was cancelled; place the order anew."))
        if order.payment_intent_id is not None:
            return await self._answer(claim, order.id)
        try:
            expires_at = await self._catalog.hold(order, self._hold_ttl)
            crash_point("checkout.held")
            intent = await self._payments.create_intent(order.id, order.total, order.currency, order.email)
            crash_point("checkout.intent_created")
        except Problem as problem:
            await self._give_up(claim, order, problem)
        prepared = replace(
            order,
            hold_expires_at=expires_at,
            payment_intent_id=intent.payment_intent_id,
            client_secret=intent.client_secret,
        )
        view = self._view(prepared)
        if order.status is OrderStatus.PENDING:
            async with self._database.connection() as connection:
                crash_point("checkout.answer_not_committed")
                if await orders.prepare_payment(connection, prepared, claim, 201, view):
                    return view
        # It was paid, cancelled or prepared meanwhile.
        async with self._database.transaction("prepare payment") as connection:
            await orders.set_hold(connection, order.id, expires_at)
            await orders.set_intent(connection, order.id, intent.payment_intent_id, intent.client_secret)
            return await self._store(connection, claim, order.id)

    async def _answer(self, claim: Claim, order_id: str) -> CheckoutView:
        async with self._database.transaction("answer checkout") as connection:
            return await self._store(connection, claim, order_id)

    async def _store(self, connection: Connection, claim: Claim, order_id: str) -> CheckoutView:
        order = await orders.find(connection, order_id, lock=True)
        assert order is not None  # orders are never deleted
        if order.status is OrderStatus.CANCELLED:
            raise CheckoutClosed("This checkout was cancelled meanwhile; place the order anew.")
        view = self._view(order)
        await claim.store(connection, 201, view)
        return view

    async def _give_up(self, claim: Claim, order: Order, problem: Problem) -> NoReturn:
        """Catalog refused the hold, or payments the intent: the order ends here, and the key may be used again.

        It ends like any other, with payments asked first: another request on this cart may be further than we are.
        """
        match problem.code:
            case OutOfStock.code:
                await self._cancellation.cancel(order, problem.code, Actor.ORDERS)
                await self._refuse(claim, OutOfStock(problem.detail, changes=_titled(order, problem)))
            case PriceChanged.code:
                await self._cancellation.cancel(order, problem.code, Actor.ORDERS)
                await self._refuse(claim, PriceChanged(problem.detail, changes=_titled(order, problem)))
            case "unknown_variant" | "amount_refused" | PaymentRefused.code:
                await self._cancellation.cancel(order, problem.code, Actor.ORDERS)
                await self._refuse(claim, problem)
            case "hold_released" | "payment_cancelled":
                await self._refuse(claim, CheckoutClosed("This checkout was cancelled; place the order anew."))
            case _:
                raise problem

    async def _refuse(self, claim: Claim, problem: Problem) -> NoReturn:
        """Nothing was done under this key, so that it may be used again when the customer has looked."""
        if claim.key:
            async with self._database.transaction("refuse checkout") as connection:
                await claim.forget(connection)
        raise problem

    async def show(self, order_id: str, token: str) -> CheckoutView:
        """A checkout, for who holds its token. Raises `NotFound`."""
        order = await self._find(order_id, token)
        return self._view(await self._cancellation.finish(order) if order.ending else order)

    async def cancel(self, order_id: str, token: str) -> CheckoutView:
        """Ends a checkout that was not paid; the second call finds it ended.

        Raises `NotFound`, `PaymentInProgress`, `CheckoutClosed`.
        """
        self._check(order_id, token)

        async def view(_connection: Connection, order: Order) -> CheckoutView:
            return self._view(order)

        return await self._cancellation.by_customer(order_id, view)

    async def _find(self, order_id: str, token: str) -> Order:
        self._check(order_id, token)
        async with self._database.connection() as connection:
            order = await orders.find(connection, order_id)
        if order is None:
            raise NotFound
        return order

    def _check(self, order_id: str, token: str) -> None:
        if not (is_id(order_id) and self._signer.verify("checkout", order_id, token)):
            raise NotFound

    def _view(self, order: Order) -> CheckoutView:
        return CheckoutView.of(order, self._signer.sign("checkout", order.id))


def _details_changed(order: Order, details: Details) -> list[dict[str, str]]:
    ordered = (order.email, order.shipping_address, order.shipping_method, order.note)
    wanted = (details.email, details.shipping_address, details.shipping_method, details.note)
    names = ("email", "shipping_address", "shipping_method", "note")
    return [{"field": name} for name, was, now in zip(names, ordered, wanted, strict=True) if was != now]


def _coupon_changed(order: Order, cart: Cart) -> list[dict[str, str | None]]:
    code = cart.coupon.code if cart.coupon else None
    return [{"field": "coupon", "ordered": order.coupon_code, "in_cart": code}] if code != order.coupon_code else []


def _titled(order: Order, problem: Problem) -> list[dict[str, Any]]:
    """What catalog says has changed, by the names the customer knows."""
    titles = {line.variant_id: line.title for line in order.lines}
    return [{"title": titles[change["variant_id"]], **change} for change in problem.extensions.get("changes", [])]


def _coupon_gone(cart: Cart, reason: Refusal) -> CartChanged:
    code = cart.coupon.code if cart.coupon else ""
    return CartChanged(
        f"Coupon {code} does not apply any more; take it out of the cart to go on without it.",
        changes=[{"field": "coupon", "code": code, "reason": reason}],
    )


def _new_order(owner: Owner, cart: Cart, details: Details, costs: Price) -> Order:
    return Order(
        id="",
        number="",
        cart_id=cart.id,
        status=OrderStatus.PENDING,
        stock=StockState.HELD,
        email=details.email,
        shipping_address=details.shipping_address,
        shipping_method=details.shipping_method,
        note=details.note,
        currency=cart.currency,
        subtotal=costs.subtotal,
        discount=costs.discount,
        shipping=costs.shipping,
        tax=costs.tax,
        total=costs.total,
        hold_expires_at=datetime.max.replace(tzinfo=UTC),
        payment_intent_id=None,
        client_secret=None,
        correlation_id=correlation_id(),
        lines=costs.lines,
        customer_id=owner.customer_id,
        created_at=datetime.max.replace(tzinfo=UTC),
        coupon_code=cart.coupon.code if cart.coupon else None,
        shipping_tax=costs.shipping_tax,
    )
