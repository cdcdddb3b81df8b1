"""A customer's name at Stripe, and the cards they let Stripe keep. We hold the name and nothing of the cards."""

from typing import Final

import stripe

from reliability.context import Principal
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Unavailable
from reliability.postgres import Database
from services.payments_webhooks.customer import repository
from services.payments_webhooks.customer.repository import StripeCustomer
from services.payments_webhooks.errors import no_cursor
from services.payments_webhooks.pay.schemas import CardPage, CardView
from services.payments_webhooks.stripe_api import ReplayedFailure, Stripe, too_old

__all__ = ["CustomerService"]

_PAGE: Final = 100


class CustomerService:
    """One customer at Stripe per account."""

    def __init__(self, database: Database, stripe: Stripe) -> None:
        self._database = database
        self._stripe = stripe

    async def ensure(self, who: Principal) -> str:
        """Stripe's id of a customer, made if there is none, however often this is asked."""
        async with self._database.transaction("customer at Stripe") as connection:
            customer = await repository.insert(connection, who.id, who.email)
        if customer.stripe_id is not None:
            return customer.stripe_id
        found = await self._at_stripe(customer)
        crash_point("customer.not_stored")
        async with self._database.transaction("store customer") as connection:
            await repository.set_stripe_id(connection, who.id, found.id)
        return found.id

    async def _at_stripe(self, customer: StripeCustomer) -> stripe.Customer:
        if too_old(customer.created_at) and (found := await self._stripe.customers.find(customer.account_id)):
            return found
        try:
            return await self._stripe.customers.create(
                f"customer:{customer.account_id}", customer.account_id, customer.email
            )
        except ReplayedFailure as error:
            found = await self._stripe.customers.find(customer.account_id)
            if found is None:  # Stripe forgets the key after a day; a customer without money loses nothing by it
                raise Unavailable("Stripe had an error; try again later.") from error
            return found

    async def give(self, who: Principal, intent_id: str, method_id: str | None) -> None:
        """Lets Stripe keep the card an intent is paid with, or puts one that it keeps into it."""
        await self._stripe.intents.give_to(intent_id, await self.ensure(who), method_id)

    async def cards(self, who: Principal, limit: int, cursor: str | None) -> CardPage:
        """Their saved cards. Raises `ValidationFailed` for a cursor that is none of them."""
        customer_id = await self._known(who)
        if customer_id is None:
            return CardPage(items=[], next_cursor=None)
        if cursor is not None:
            try:
                await self.require_card(who, cursor)
            except NotFound:
                raise no_cursor() from None
        methods, more = await self._stripe.customers.methods(customer_id, limit, cursor)
        items = [view for method in methods if (view := _view(method))]
        return CardPage(items=items, next_cursor=methods[-1].id if more else None)

    async def require_card(self, who: Principal, method_id: str) -> None:
        """Raises `NotFound` for a card that is not saved with this customer."""
        customer_id = await self._known(who)
        method = await self._stripe.customers.method(method_id) if customer_id and _plausible(method_id) else None
        if method is None or method.customer != customer_id:
            raise NotFound(f"There is no saved card {method_id!r}.")

    async def forget_card(self, who: Principal, method_id: str) -> None:
        """Takes a card back from Stripe. Raises `NotFound`, also when it was forgotten before."""
        await self.require_card(who, method_id)
        await self._stripe.customers.detach(method_id)

    async def forget_cards(self, account_id: str) -> None:
        """Takes every card of an account back from Stripe."""
        stripe_id = await self._stripe_id(account_id)
        if stripe_id is None:
            return
        while True:
            methods, _ = await self._stripe.customers.methods(stripe_id, _PAGE, None)
            for method in methods:
                await self._stripe.customers.detach(method.id)
            if not methods:
                return

    async def _known(self, who: Principal) -> str | None:
        return await self._stripe_id(who.id)

    async def _stripe_id(self, account_id: str) -> str | None:
        async with self._database.connection() as connection:
            customer = await repository.find(connection, account_id)
        return customer.stripe_id if customer else None


def _plausible(method_id: str) -> bool:
    """It becomes part of an address at Stripe: nothing in it may lead elsewhere."""
    return method_id.startswith("pm_") and method_id.isascii() and method_id.replace("_", "").isalnum()


def _view(method: stripe.PaymentMethod) -> CardView | None:
    card = method.card
    if card is None:
        return None
    return CardView(
        id=method.id, brand=card.brand, last4=card.last4 or "", exp_month=card.exp_month, exp_year=card.exp_year
    )
