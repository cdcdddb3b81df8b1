"""Paying over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.errors import NotFound
from services.payments_webhooks.caller import signed_in
from services.payments_webhooks.customer.service import CustomerService
from services.payments_webhooks.pay.schemas import (
    CardPage,
    IntentView,
    OpenIntent,
    OpenSession,
    PageQuery,
    SessionView,
)
from services.payments_webhooks.pay.service import PayService

__all__ = ["PayRoutes"]

_PAYMENTS = "/api/payments"


class PayRoutes:
    """Decode, call, encode."""

    def __init__(self, service: PayService, customers: CustomerService) -> None:
        self._service = service
        self._customers = customers

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        mine, required = Access.CUSTOMER, KeyRule.REQUIRED
        return [
            Endpoint(
                "POST",
                f"{_PAYMENTS}/intents",
                self._open_intent,
                access=mine,
                key=required,
                body=OpenIntent,
                answer=IntentView,
                status=201,
            ),
            Endpoint("GET", f"{_PAYMENTS}/intents/{{id}}", self._show, access=mine, answer=IntentView),
            Endpoint(
                "POST",
                f"{_PAYMENTS}/checkout-sessions",
                self._open_session,
                access=mine,
                key=required,
                body=OpenSession,
                answer=SessionView,
                status=201,
            ),
            Endpoint(
                "GET",
                f"{_PAYMENTS}/methods",
                self._cards,
                access=mine,
                query=PageQuery,
                answer=CardPage,
                problems=(NotFound,),
            ),
            Endpoint("DELETE", f"{_PAYMENTS}/methods/{{id}}", self._forget_card, access=mine, status=204),
        ]

    async def _open_intent(self, call: Call) -> Answer:
        return Answer(await self._service.open_intent(signed_in(), call.body), 201)

    async def _show(self, call: Call) -> Answer:
        return Answer(await self._service.show(signed_in(), call.path("id")))

    async def _open_session(self, call: Call) -> Answer:
        return Answer(await self._service.open_session(signed_in(), call.body), 201)

    async def _cards(self, call: Call) -> Answer:
        return Answer(await self._customers.cards(signed_in(), call.query.limit, call.query.cursor))

    async def _forget_card(self, call: Call) -> Answer:
        await self._customers.forget_card(signed_in(), call.path("id"))
        return Answer(status=204)
