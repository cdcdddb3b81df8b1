"""Subscribing, and ending or going on with what was subscribed to.

row `creating`          (transaction, with the request's key)
Stripe: create          (repeatable: the key is the row)
what Stripe said        (transaction)
answer                  (transaction)
"""

from typing import Final

from reliability.context import Principal, correlation_id
from reliability.crash_points import crash_point
from reliability.errors import FieldError, NotFound, Unavailable, ValidationFailed
from reliability.idempotency import Claim
from reliability.ids import is_id, new_id
from reliability.postgres import Database
from services.payments_webhooks.claims import claimed
from services.payments_webhooks.customer.service import CustomerService
from services.payments_webhooks.errors import (
    AlreadySubscribed,
    SubscriptionEnded,
    SubscriptionRefused,
    SubscriptionUnpaid,
    no_cursor,
)
from services.payments_webhooks.stripe_api import NewAtStripe, ReplayedFailure, Stripe, too_old
from services.payments_webhooks.subscription import repository
from services.payments_webhooks.subscription.domain import Plan, Subscription, SubscriptionState, Told
from services.payments_webhooks.subscription.events import record
from services.payments_webhooks.subscription.repository import NewSubscription
from services.payments_webhooks.subscription.schemas import Subscribe, SubscriptionPage, SubscriptionView

__all__ = ["SubscriptionService"]

_BEGUN: Final = "begun"
# More often than this nobody changes it while we ask Stripe.
_ROUNDS: Final = 5


class SubscriptionService:
    """One live subscription of an account to a plan."""

    def __init__(self, database: Database, stripe: Stripe, customers: CustomerService) -> None:
        self._database = database
        self._stripe = stripe
        self._customers = customers

    async def subscribe(self, who: Principal, asked: Subscribe) -> SubscriptionView:
        """A subscription to a plan, or the one that still waits for its first payment: a card pays it then.

        Raises `ValidationFailed`, `NotFound` for a card that is not theirs, `AlreadySubscribed`,
        `SubscriptionRefused`.
        """
        async with claimed(self._database, who.id) as claim:
            subscription, own = await self._begun(who, asked, claim)
            crash_point("subscription.not_created")
            unfinished = subscription.state in {SubscriptionState.CREATING, SubscriptionState.INCOMPLETE}
            subscription, secret = await self._at_stripe(subscription, asked.payment_method_id)
            same = unfinished and subscription.payment_method_id == asked.payment_method_id
            if not (own or same):
                raise AlreadySubscribed(f"There is a subscription to {asked.plan!r} already: {subscription.id}.")
            view = SubscriptionView.of(subscription, secret)
            async with self._database.transaction("answer subscription") as connection:
                await claim.store(connection, 201, view.model_dump(mode="json"))
        crash_point("subscription.not_answered")
        return view

    async def page(self, who: Principal, limit: int, before: str | None) -> SubscriptionPage:
        """Their subscriptions, newest first. Raises `ValidationFailed` for a cursor that is none of them."""
        if before is not None:
            try:
                await self._own(who, before)
            except NotFound:
                raise no_cursor() from None
        async with self._database.connection() as connection:
            rows = await repository.page(connection, who.id, limit + 1, before)
        shown = rows[:limit]
        return SubscriptionPage(
            items=[SubscriptionView.of(row) for row in shown], next_cursor=shown[-1].id if len(rows) > limit else None
        )

    async def set_ending(self, who: Principal, subscription_id: str, *, ending: bool) -> SubscriptionView:
        """Ends it with its period, or lets it go on; one that was never paid is cancelled at once.

        Raises `NotFound`, `SubscriptionEnded`, `SubscriptionUnpaid`.
        """
        async with claimed(self._database, who.id) as claim:
            view = SubscriptionView.of(await self._changed(who, subscription_id, ending=ending))
            async with self._database.transaction("answer change of subscription") as connection:
                await claim.store(connection, 200, view.model_dump(mode="json"))
        return view

    async def end_now(self, subscription_id: str) -> None:
        """Ends it at once, whatever was paid for, and says nothing of it; ended before, it is ended.

        Raises `Unavailable`.
        """
        for _ in range(_ROUNDS):
            async with self._database.connection() as connection:
                subscription = await repository.find(connection, subscription_id)
            if subscription is None or subscription.stripe_id is None or subscription.state.over:
                return
            told = Told.of((await self._stripe.subscriptions.cancel(subscription.stripe_id)).to_dict())
            async with self._database.transaction("store end of subscription") as connection:
                if await repository.take(connection, subscription, told) is not None:
                    return
        raise Unavailable("The subscription is being changed; try again in a moment.")

    async def _begun(self, who: Principal, asked: Subscribe, claim: Claim) -> tuple[Subscription, bool]:
        """The row, and whether it is this request's: also that of an attempt at it that died."""
        if claim.recovery_point == _BEGUN:
            return await self._own(who, claim.data["subscription_id"]), True
        plan = await self._plan(asked.plan)
        if asked.payment_method_id is not None:
            await self._customers.require_card(who, asked.payment_method_id)
        customer_id = await self._customers.ensure(who)
        new = NewSubscription(who.id, customer_id, who.name, who.email, plan, asked.payment_method_id)
        async with self._database.transaction("begin subscription") as connection:
            subscription, fresh = await repository.begin(connection, new, correlation_id())
            own = fresh or (subscription.state is SubscriptionState.INCOMPLETE and asked.payment_method_id is not None)
            if own:
                await claim.advance(connection, _BEGUN, subscription_id=subscription.id)
        return subscription, own

    async def _plan(self, name: str) -> Plan:
        price = await self._stripe.subscriptions.price(name)
        if price is None or price.recurring is None or price.unit_amount is None:
            raise ValidationFailed([FieldError("/plan", "is not a plan of ours")])
        title = price.product.name if not isinstance(price.product, str) else name
        every = price.recurring
        return Plan(
            name, title, price.id, price.unit_amount, price.currency.upper(), every.interval, every.interval_count
        )

    async def _at_stripe(self, subscription: Subscription, card: str | None) -> tuple[Subscription, str | None]:
        """The row with what Stripe has for it, made if there is nothing, however often this is asked.

        One that waits for its first payment is paid with the card, if there is one.
        """
        for _ in range(_ROUNDS):
            if subscription.stripe_id is None:
                told = await self._made(subscription)
                crash_point("subscription.not_stored")
            elif subscription.state is SubscriptionState.INCOMPLETE:
                told = await self._first_paid(subscription.stripe_id, card)
            else:
                return subscription, None
            async with self._database.transaction("store subscription") as connection:
                taken = await record(connection, subscription, told)
                if taken is not None:
                    return taken, told.client_secret if taken.state is SubscriptionState.INCOMPLETE else None
                subscription = await repository.find(connection, subscription.id) or subscription
            if subscription.state is SubscriptionState.REFUSED:
                raise SubscriptionRefused
        raise Unavailable("The subscription is being changed; try again in a moment.")

    async def _first_paid(self, stripe_id: str, card: str | None) -> Told:
        """What Stripe says of one that waits for its first payment, after the card was charged, if there is one.

        The key is new each time: what was refused may be asked again, and the invoice is not paid twice.
        """
        if card is None:
            return Told.of((await self._stripe.subscriptions.retrieve(stripe_id)).to_dict())
        try:
            return Told.of((await self._stripe.subscriptions.pay(new_id(), stripe_id, card)).to_dict())
        except ReplayedFailure as error:
            raise Unavailable("Stripe had an error; try again in a moment.") from error

    async def _made(self, subscription: Subscription) -> Told:
        stripe = self._stripe.subscriptions
        if too_old(subscription.created_at) and (found := await self._found(subscription)):
            return found
        new = NewAtStripe(
            subscription.customer_id, subscription.price_id, subscription.payment_method_id, subscription.metadata()
        )
        try:
            return Told.of((await stripe.create(subscription.idempotency_key, new)).to_dict())
        except SubscriptionRefused:
            async with self._database.transaction("subscription refused") as connection:
                await repository.refuse(connection, subscription.id)
            raise
        except ReplayedFailure as error:
            if found := await self._found(subscription):
                return found
            async with self._database.transaction("give up stripe key") as connection:
                await repository.next_key(connection, subscription)
            raise Unavailable("Stripe had an error; try again in a moment.") from error

    async def _found(self, subscription: Subscription) -> Told | None:
        found = await self._stripe.subscriptions.find(subscription.customer_id, subscription.id)
        return Told.of(found.to_dict()) if found else None

    async def _changed(self, who: Principal, subscription_id: str, *, ending: bool) -> Subscription:
        for _ in range(_ROUNDS):
            subscription = await self._own(who, subscription_id)
            told = await self._told_to(subscription, ending=ending)
            crash_point("subscription.change_not_stored")
            async with self._database.transaction("store change of subscription") as connection:
                taken = await record(connection, subscription, told)
            if taken is not None and taken.state.over and subscription.state is not SubscriptionState.INCOMPLETE:
                raise SubscriptionEnded(f"Subscription {subscription_id} is over.")
            if taken is not None:
                return taken
        raise Unavailable("The subscription is being changed; try again in a moment.")

    async def _told_to(self, subscription: Subscription, *, ending: bool) -> Told:
        """What Stripe says after it was told. Raises `NotFound`, `SubscriptionEnded`, `SubscriptionUnpaid`."""
        if subscription.stripe_id is None:
            raise NotFound(f"There is no subscription {subscription.id!r}.")
        if subscription.state.over:
            raise SubscriptionEnded(f"Subscription {subscription.id} is over.")
        if subscription.state is not SubscriptionState.INCOMPLETE:
            key = f"{subscription.idempotency_key}:{subscription.version}:{'end' if ending else 'go on'}"
            changed = await self._stripe.subscriptions.set_ending(key, subscription.stripe_id, ending=ending)
        elif ending:
            changed = await self._stripe.subscriptions.cancel(subscription.stripe_id)
        else:
            raise SubscriptionUnpaid(f"Subscription {subscription.id} waits for its first payment.")
        return Told.of(changed.to_dict())

    async def _own(self, who: Principal, subscription_id: str) -> Subscription:
        """A subscription of theirs that Stripe has, or is being asked for. Raises `NotFound`."""
        found = None
        if is_id(subscription_id):
            async with self._database.connection() as connection:
                found = await repository.find(connection, subscription_id)
        if found is None or found.account_id != who.id:
            raise NotFound(f"There is no subscription {subscription_id!r}.")
        return found
