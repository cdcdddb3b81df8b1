"""Where Stripe calls."""

from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from reliability.asgi import Access, Answer, Call, Endpoint, KeyRule
from reliability.errors import InvalidRequest, PayloadTooLarge, Unavailable
from reliability.logging import get_logger
from services.payments_webhooks.webhook.service import WebhookService

__all__ = ["WebhookRoutes"]

_log = get_logger(__name__)


class Receipt(BaseModel):
    """Stored; what was stored before is a duplicate."""

    received: bool = True
    duplicate: bool


_RETRY_AFTER: Final = 5.0
_FRESH: Final = Answer(Receipt(duplicate=False)).response()
_DUPLICATE: Final = Answer(Receipt(duplicate=True)).response()


class WebhookRoutes:
    """Decode, call, encode."""

    def __init__(self, service: WebhookService) -> None:
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        return [
            Endpoint(
                "POST",
                "/api/stripe/webhook",
                self._receive,
                access=Access.SIGNED,
                key=KeyRule.IGNORED,
                answer=Receipt,
            )
        ]

    async def _receive(self, call: Call) -> Response:
        try:
            fresh = await self._service.receive(call.raw, call.request.headers.get("stripe-signature", ""))
        except (InvalidRequest, PayloadTooLarge):
            raise
        except Exception as error:
            # Not committed, for whatever reason: 503 is the answer that makes Stripe send it again.
            _log.error("webhook_not_stored", error=type(error).__name__, exc_info=error)
            raise Unavailable("The event could not be stored; send it again.", retry_after=_RETRY_AFTER) from error
        return _FRESH if fresh else _DUPLICATE
