"""Making, replacing and ending payments.

row `creating`          (transaction)
Stripe: create          (repeatable: the key is the row)
intent or page stored   (transaction)
"""

from dataclasses import dataclass
from typing import Final, assert_never

from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import Unavailable
from reliability.postgres import Connection, Database
from services.payments_webhooks.errors import (
    AmountRefused,
    PaymentCancelled,
    PaymentDiffers,
    PaymentElsewhere,
    PaymentInProgress,
    PaymentRefused,
)
from services.payments_webhooks.intent import repository
from services.payments_webhooks.intent.domain import Kind, Payment, PaymentState, state_of_intent, state_of_session
from services.payments_webhooks.intent.repository import NewPayment
from services.payments_webhooks.stripe_api import NewSession, ReplayedFailure, Stripe, too_old

__all__ = ["IntentService"]

# More often than this nobody changes their mind while we ask Stripe.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class _AtStripe:
    """An intent with its client secret, or a page with its address."""

    id: str
    opens: str


class IntentService:
    """One live payment per order."""

    def __init__(self, database: Database, stripe: Stripe, public_url: str) -> None:
        self._database = database
        self._stripe = stripe
        self._public_url = public_url

    async def create(self, new: NewPayment, attempt: int) -> Payment:
        """The intent of (order, attempt), or the one that replaced it.

        Raises `PaymentCancelled`, `PaymentDiffers`, `PaymentElsewhere`.
        """
        async with self._database.connection() as connection:
            payment = await repository.insert(connection, new, attempt, correlation_id())
            if payment.state is PaymentState.CANCELED:
                payment = await repository.by_order(connection, new.order_id) or payment
        crash_point("intent.not_created")
        if payment.state is PaymentState.CANCELED:
            raise PaymentCancelled(f"The payment of order {new.order_id} was cancelled.")
        _require_same(payment, new)
        if payment.kind is Kind.SESSION:
            raise PaymentElsewhere(f"Order {new.order_id} is being paid on Stripe's page.")
        payment = await self._at_stripe(payment)
        if payment.state is PaymentState.CANCELED:  # while Stripe was asked
            raise PaymentCancelled(f"The payment of order {new.order_id} was cancelled.")
        return payment

    async def pay_by(self, new: NewPayment) -> Payment:
        """The order's live payment, of the kind the customer wants; another kind is ended at Stripe first.

        Raises `PaymentCancelled`, `PaymentDiffers`, `PaymentInProgress`.
        """
        for _ in range(_ROUNDS):
            payment = await self._choose(new)
            if payment.kind is new.kind:
                return await self._at_stripe(payment)
            crash_point("switch.not_ended")
            if await self._end_at_stripe(payment) is not PaymentState.CANCELED:
                raise PaymentInProgress(f"Order {new.order_id} is being paid.")
            crash_point("switch.not_replaced")
        raise Unavailable("This order's way to be paid is being changed; try again in a moment.")

    async def _choose(self, new: NewPayment) -> Payment:
        """What is live now; its successor is written down before Stripe is asked to end it."""
        async with self._database.transaction("choose payment") as connection:
            await repository.lock_order(connection, new.order_id)
            payment = await repository.by_order(connection, new.order_id)
            if payment is None:
                return await repository.insert(connection, new, 1, correlation_id())
            match payment.state:
                case PaymentState.CANCELED if payment.successor is None:
                    raise PaymentCancelled(f"The payment of order {new.order_id} was cancelled.")
                case PaymentState.CANCELED:
                    return await repository.insert(connection, new, payment.attempt + 1, correlation_id())
                case PaymentState.SUCCEEDED:
                    raise PaymentInProgress(f"Order {new.order_id} has been paid.")
                case PaymentState.CREATING | PaymentState.OPEN | PaymentState.PROCESSING:
                    _require_same(payment, new)
                    if payment.kind is not new.kind:
                        await repository.set_successor(connection, payment.id, new.kind)
                    return payment
                case _:
                    assert_never(payment.state)

    async def cancel(self, order_id: str) -> PaymentState:
        """Asks Stripe to end whatever is live of an order; what it is now. Only `canceled` is the end of it."""
        for _ in range(_ROUNDS):
            payment = await self._close(order_id)
            if not payment.live:
                return payment.state
            state = await self._end_at_stripe(payment)
            if state is not PaymentState.CANCELED:
                return state
        return PaymentState.PROCESSING

    async def _close(self, order_id: str) -> Payment:
        """The order's newest payment. When that is cancelled, none will ever follow it."""
        async with self._database.transaction("close payments") as connection:
            await repository.lock_order(connection, order_id)
            payment = await repository.by_order(connection, order_id)
            if payment is None:
                await repository.insert_cancelled(connection, order_id, correlation_id())
                payment = await repository.by_order(connection, order_id)
            assert payment is not None  # found, or inserted above
            if payment.state is PaymentState.CANCELED and payment.successor is not None:
                await repository.set_successor(connection, payment.id, None)
            return payment

    async def _end_at_stripe(self, payment: Payment) -> PaymentState:
        # A payment still `creating` may be at Stripe without our knowing: asking for it again, by the same key,
        # tells its id, and only then is there something whose end Stripe can confirm.
        try:
            state = await self._ended(await self._at_stripe(payment))
        except (AmountRefused, PaymentRefused):  # then there never was one
            state = PaymentState.CANCELED
        async with self._database.transaction("payment ended") as connection:
            # `succeeded` is the webhook's to write: with it goes the report to orders.
            if state in {PaymentState.CANCELED, PaymentState.PROCESSING}:
                await repository.set_state(connection, payment.id, state)
        return state

    async def _ended(self, payment: Payment) -> PaymentState:
        match payment.kind:
            case Kind.INTENT:
                assert payment.payment_intent_id is not None  # _at_stripe gives it or raises
                return state_of_intent(await self._stripe.intents.cancel(payment.payment_intent_id))
            case Kind.SESSION:
                assert payment.session_id is not None  # _at_stripe gives it or raises
                session = await self._stripe.sessions.expire(payment.session_id)
                return state_of_session(session.status, session.payment_status)
            case _:
                assert_never(payment.kind)

    async def _at_stripe(self, payment: Payment) -> Payment:
        """The payment with what Stripe has for it, made if there is nothing, however often this is asked."""
        if (payment.payment_intent_id if payment.kind is Kind.INTENT else payment.session_id) is not None:
            return payment
        found = await self._find(payment) if too_old(payment.created_at) else None
        if found is None:
            try:
                found = await self._make(payment)
            except ReplayedFailure as error:
                found = await self._find(payment)
                if found is None:
                    async with self._database.transaction("give up stripe key") as connection:
                        await repository.next_key(connection, payment)
                    raise Unavailable("Stripe had an error; try again in a moment.") from error
        crash_point("intent.not_stored")
        async with self._database.connection() as connection:
            stored = await _store(connection, payment, found) or await repository.find(connection, payment.id)
        assert stored is not None  # payments are never deleted
        crash_point("intent.not_answered")
        return stored

    async def _make(self, payment: Payment) -> _AtStripe:
        if payment.kind is Kind.INTENT:
            return _AtStripe(
                *await self._stripe.intents.create(
                    payment.idempotency_key, payment.amount, payment.currency, payment.email, payment.metadata()
                )
            )
        new = NewSession(
            reference=payment.id,
            title=payment.title,
            amount=payment.amount,
            currency=payment.currency,
            email=payment.email,
            return_url=self._public_url.rstrip("/") + payment.return_path,
            metadata=payment.metadata(),
        )
        session = await self._stripe.sessions.create(payment.idempotency_key, new)
        return _AtStripe(session.id, session.url or "")

    async def _find(self, payment: Payment) -> _AtStripe | None:
        if payment.kind is Kind.INTENT:
            intent = await self._stripe.intents.find(payment.id, payment.created_at)
            return _AtStripe(intent.id, intent.client_secret or "") if intent else None
        session = await self._stripe.sessions.find(payment.id, payment.created_at)
        return _AtStripe(session.id, session.url or "") if session else None


async def _store(connection: Connection, payment: Payment, found: _AtStripe) -> Payment | None:
    if payment.kind is Kind.INTENT:
        return await repository.set_intent(connection, payment.id, found.id, found.opens)
    return await repository.set_session(connection, payment.id, found.id, found.opens)


def _require_same(payment: Payment, new: NewPayment) -> None:
    if (payment.amount, payment.currency) != (new.amount, new.currency):
        raise PaymentDiffers(f"The payment of order {new.order_id} was begun with {payment.amount} {payment.currency}.")
