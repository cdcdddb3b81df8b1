"""A customer pays an order of theirs: whose it is, orders says; what is live of it, payments."""

from reliability.context import Principal
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.ids import is_id
from reliability.postgres import Database
from services.payments_webhooks.claims import claimed
from services.payments_webhooks.customer.service import CustomerService
from services.payments_webhooks.intent import repository
from services.payments_webhooks.intent.domain import Kind, Payment
from services.payments_webhooks.intent.repository import NewPayment
from services.payments_webhooks.intent.service import IntentService
from services.payments_webhooks.orders import Orders, PayableOrder
from services.payments_webhooks.pay.schemas import IntentView, OpenIntent, OpenSession, SessionView

__all__ = ["PayService"]


class PayService:
    """Intents and hosted pages for signed-in customers."""

    def __init__(self, database: Database, intents: IntentService, orders: Orders, customers: CustomerService) -> None:
        self._database = database
        self._intents = intents
        self._orders = orders
        self._customers = customers

    async def open_intent(self, who: Principal, asked: OpenIntent) -> IntentView:
        """The order's intent. Raises `NotFound`, `OrderNotPayable`, and what `IntentService.pay_by` raises."""
        async with claimed(self._database, who.id) as claim:
            order = await self._orders.payable(asked.order_id, who.id)
            if asked.payment_method_id is not None:
                await self._customers.require_card(who, asked.payment_method_id)
            payment = await self._intents.pay_by(_new(order, Kind.INTENT))
            if asked.save_card or asked.payment_method_id is not None:
                assert payment.payment_intent_id is not None  # pay_by gives it or raises
                await self._customers.give(who, payment.payment_intent_id, asked.payment_method_id)
            view = IntentView.of(payment)
            async with self._database.transaction("answer intent") as connection:
                await claim.store(connection, 201, view.model_dump(mode="json"))
        crash_point("pay.not_answered")
        return view

    async def open_session(self, who: Principal, asked: OpenSession) -> SessionView:
        """The order's hosted page. Raises as `open_intent` does."""
        async with claimed(self._database, who.id) as claim:
            order = await self._orders.payable(asked.order_id, who.id)
            payment = await self._intents.pay_by(_new(order, Kind.SESSION, asked.return_path))
            view = SessionView.of(payment)
            async with self._database.transaction("answer session") as connection:
                await claim.store(connection, 201, view.model_dump(mode="json"))
        return view

    async def show(self, who: Principal, name: str) -> IntentView:
        """A payment of an order of theirs, by our id or by Stripe's. Raises `NotFound`."""
        async with self._database.connection() as connection:
            payment = await (repository.find if is_id(name) else repository.by_intent)(connection, name)
        if payment is None or not await self._owns(who, payment):
            raise NotFound(f"There is no payment {name!r}.")
        return IntentView.of(payment)

    async def _owns(self, who: Principal, payment: Payment) -> bool:
        try:
            await self._orders.owned(payment.order_id, who.id)
        except Problem as problem:  # it names the order, which is nobody else's business
            if problem.code != NotFound.code:
                raise
            return False
        return True


def _new(order: PayableOrder, kind: Kind, return_path: str = "/") -> NewPayment:
    title = f"Order {order.number}"
    return NewPayment(order.id, order.amount, order.currency, order.email, kind, title, return_path)
