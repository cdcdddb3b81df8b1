"""The backstop: stock comes back on sale even when nobody releases it."""

from datetime import datetime, timedelta
from typing import Final

from reliability.jobs import Run, Worker
from services.catalog.stock.service import StockService

__all__ = ["register"]

_EVERY_SECONDS: Final = 30.0


def register(worker: Worker, stock: StockService, *, backstop: timedelta) -> None:
    """Ends holds `backstop` after their end.

    Orders ends its holds itself, after making sure that no payment is under way; only when it has not done so for
    that long is a hold taken to be forgotten.
    """

    async def expire_holds(_scheduled_for: datetime) -> Run:
        processed = 0
        while released := await stock.release_expired(backstop):
            processed += released
        return Run(processed)

    worker.every(_EVERY_SECONDS, "expire_holds", expire_holds)
