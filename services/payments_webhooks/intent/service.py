"""Making and ending payment intents.

row `creating`          (transaction)
Stripe: create          (repeatable: the key is the row)
intent stored           (transaction)
"""

from typing import assert_never

from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import Unavailable
from reliability.postgres import Database
from services.payments_webhooks.errors import AmountRefused, PaymentCancelled, PaymentDiffers
from services.payments_webhooks.intent import repository
from services.payments_webhooks.intent.domain import Payment, PaymentState, state_of_intent
from services.payments_webhooks.stripe_api import ReplayedFailure, Stripe, too_old

__all__ = ["IntentService"]


class IntentService:
    """One live intent per order."""

    def __init__(self, database: Database, stripe: Stripe) -> None:
        self._database = database
        self._stripe = stripe

    async def create(self, order_id: str, attempt: int, amount: int, currency: str, email: str) -> Payment:
        """The payment of (order, attempt) with its intent. Raises `PaymentCancelled`, `PaymentDiffers`."""
        async with self._database.transaction("begin payment") as connection:
            payment = await repository.insert(connection, order_id, attempt, amount, currency, email, correlation_id())
        crash_point("intent.not_created")
        if payment.state is PaymentState.CANCELED:
            raise PaymentCancelled(f"The payment of order {order_id} was cancelled.")
        if (payment.amount, payment.currency) != (amount, currency):
            raise PaymentDiffers(f"The payment of order {order_id} was begun with {payment.amount} {payment.currency}.")
        payment = await self._with_intent(payment)
        if payment.state is PaymentState.CANCELED:  # while Stripe was asked
            raise PaymentCancelled(f"The payment of order {order_id} was cancelled.")
        return payment

    async def _with_intent(self, payment: Payment) -> Payment:
        """The payment with the intent Stripe has for it, however often this is asked."""
        if payment.payment_intent_id is not None:
            return payment
        intent = None
        if too_old(payment.created_at):
            intent = await self._stripe.intents.find(payment.id, payment.created_at)
        if intent is None:
            try:
                intent = await self._stripe.intents.create(
                    payment.idempotency_key, payment.amount, payment.currency, payment.email, payment.metadata()
                )
            except ReplayedFailure as error:
                intent = await self._stripe.intents.find(payment.id, payment.created_at)
                if intent is None:
                    async with self._database.transaction("give up stripe key") as connection:
                        await repository.next_key(connection, payment)
                    raise Unavailable("Stripe had an error; try again in a moment.") from error
        crash_point("intent.not_stored")
        async with self._database.transaction("store intent") as connection:
            await repository.set_intent(connection, payment.id, intent.id, intent.client_secret or "")
            stored = await repository.find(connection, payment.id)
        assert stored is not None  # payments are never deleted
        crash_point("intent.not_answered")
        return stored

    async def cancel(self, order_id: str) -> PaymentState:
        """Asks Stripe to end an order's payment; what it is now. Only `canceled` is the end of it."""
        async with self._database.transaction("cancel payment") as connection:
            payment = await repository.by_order(connection, order_id)
            if payment is None:
                await repository.insert_cancelled(connection, order_id, correlation_id())
                payment = await repository.by_order(connection, order_id)
        assert payment is not None  # found, or inserted above
        match payment.state:
            case PaymentState.CANCELED | PaymentState.SUCCEEDED:
                return payment.state
            case PaymentState.CREATING | PaymentState.OPEN | PaymentState.PROCESSING:
                return await self._cancel_at_stripe(payment)
            case _:
                assert_never(payment.state)

    async def _cancel_at_stripe(self, payment: Payment) -> PaymentState:
        # A payment still `creating` may have an intent we never heard of: asking for it again, by the same key,
        # tells its id, and only then is there something whose end Stripe can confirm.
        try:
            known = await self._with_intent(payment)
        except AmountRefused:  # then there never was one
            state = PaymentState.CANCELED
        else:
            assert known.payment_intent_id is not None  # _with_intent gives it or raises
            state = state_of_intent(await self._stripe.intents.cancel(known.payment_intent_id))
        async with self._database.transaction("payment cancelled") as connection:
            # `succeeded` is the webhook's to write: with it goes the report to orders.
            if state in {PaymentState.CANCELED, PaymentState.PROCESSING}:
                await repository.set_state(connection, payment.id, state)
        return state
