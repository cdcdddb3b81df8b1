"""What Stripe says happened. It lists an event for thirty days, also one that it gave up sending."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import stripe

from services.payments_webhooks.stripe_api.calls import Calls

if TYPE_CHECKING:
    from stripe.params import EventListParamsCreated

__all__ = ["LISTED", "Events"]

LISTED: Final = timedelta(days=30)
"""How far back Stripe lists events (https://docs.stripe.com/api/events)."""
_PAGE: Final = 100


class Events:
    """The calls on events."""

    def __init__(self, calls: Calls) -> None:
        self._call = calls
        self._api = calls.client.v1.events

    async def pages(self, since: datetime, until: datetime) -> AsyncIterator[list[stripe.Event]]:
        """Every event created from `since` to `until`, newest first, a page at a time."""
        created: EventListParamsCreated = {"gte": int(since.timestamp()), "lte": int(until.timestamp())}
        page = await self._call(
            "stripe.events.list", lambda: self._api.list_async({"created": created, "limit": _PAGE})
        )
        yield page.data
        while page.has_more:
            page = await self._call("stripe.events.list", page.next_page_async)
            yield page.data
