"""Subscriptions over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.errors import NotFound
from services.payments_webhooks.caller import signed_in
from services.payments_webhooks.pay.schemas import PageQuery
from services.payments_webhooks.subscription.schemas import Subscribe, SubscriptionPage, SubscriptionView
from services.payments_webhooks.subscription.service import SubscriptionService

__all__ = ["SubscriptionRoutes"]

_SUBSCRIPTIONS = "/api/payments/subscriptions"


class SubscriptionRoutes:
    """Decode, call, encode."""

    def __init__(self, service: SubscriptionService) -> None:
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        mine, one = Access.CUSTOMER, f"{_SUBSCRIPTIONS}/{{id}}"
        return [
            Endpoint(
                "POST",
                _SUBSCRIPTIONS,
                self._subscribe,
                access=mine,
                key=KeyRule.REQUIRED,
                body=Subscribe,
                answer=SubscriptionView,
                status=201,
            ),
            Endpoint(
                "GET",
                _SUBSCRIPTIONS,
                self._page,
                access=mine,
                query=PageQuery,
                answer=SubscriptionPage,
                problems=(NotFound,),
            ),
            Endpoint("POST", f"{one}/cancel", self._cancel, access=mine, answer=SubscriptionView),
            Endpoint("POST", f"{one}/resume", self._resume, access=mine, answer=SubscriptionView),
        ]

    async def _subscribe(self, call: Call) -> Answer:
        return Answer(await self._service.subscribe(signed_in(), call.body), 201)

    async def _page(self, call: Call) -> Answer:
        return Answer(await self._service.page(signed_in(), call.query.limit, call.query.cursor))

    async def _cancel(self, call: Call) -> Answer:
        return Answer(await self._service.set_ending(signed_in(), call.path("id"), ending=True))

    async def _resume(self, call: Call) -> Answer:
        return Answer(await self._service.set_ending(signed_in(), call.path("id"), ending=False))
