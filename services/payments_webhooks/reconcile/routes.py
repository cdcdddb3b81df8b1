"""Asked for by an outside scheduler."""

from pydantic import BaseModel

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from services.payments_webhooks.reconcile.service import ReconcileService

__all__ = ["ReconcileRoutes"]


class Requested(BaseModel):
    """It will be done by a worker; its run is written down when it is."""

    requested: bool = True


class ReconcileRoutes:
    """Decode, call, encode."""

    def __init__(self, service: ReconcileService) -> None:
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint(
                "POST",
                "/api/cron/reconcile-payments",
                self._request,
                access=Access.SCHEDULER,
                permission="reconcile-payments",
                key=KeyRule.IGNORED,
                answer=Requested,
                status=202,
            )
        ]

    async def _request(self, _call: Call) -> Answer:
        await self._service.request()
        return Answer(Requested(), 202)
