"""Asks every service for its figures at once and joins what comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.notifications.v1 import notifications_pb2
from holdfast.orders.v1 import orders_pb2
from holdfast.payments.v1 import payments_pb2
from reliability import rpc
from reliability.deadline import deadline_scope
from reliability.errors import Problem
from reliability.jobs import count_dead_letters
from reliability.logging import get_logger
from reliability.postgres import Database
from services.admin.dashboard.domain import Dashboard, Revenue
from services.admin.incidents import repository as incidents

if TYPE_CHECKING:
    from holdfast.notifications.v1.notifications_pb2_grpc import NotificationsServiceAsyncStub
    from holdfast.orders.v1.orders_pb2_grpc import OrdersServiceAsyncStub
    from holdfast.payments.v1.payments_pb2_grpc import PaymentsServiceAsyncStub

__all__ = ["DashboardService", "Sources"]

# A service that is away costs the dashboard this long and no more.
_CAP: Final = 2.0

T = TypeVar("T")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Who is asked."""

    orders: "OrdersServiceAsyncStub"
    payments: "PaymentsServiceAsyncStub"
    notifications: "NotificationsServiceAsyncStub"
    database: Database


class DashboardService:
    """Joins the figures of a day."""

    def __init__(self, sources: Sources, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._sources = sources
        self._now = now

    async def today(self) -> Dashboard:
        """The figures since midnight UTC. A service that does not answer takes only its own figures away."""
        orders, payments, notifications, own = await asyncio.gather(
            _or_none("orders", self._orders()),
            _or_none("payments-webhooks", self._payments()),
            _or_none("notifications", self._notifications()),
            _or_none("admin", self._own()),
        )
        letters = {
            "orders": orders.dead_letters if orders else None,
            "payments-webhooks": payments.dead_letters if payments else None,
            "notifications": notifications.dead_letters if notifications else None,
            "admin": own[0] if own else None,
        }
        return Dashboard(
            orders_today=orders.orders if orders else None,
            revenue_today=Revenue({money.currency: money.amount for money in orders.revenue}) if orders else None,
            pending_orders=orders.pending_orders if orders else None,
            failed_emails=notifications.failed_emails if notifications else None,
            parked_webhooks=payments.parked_webhooks if payments else None,
            dead_letters={name: count for name, count in letters.items() if count is not None},
            incidents=own[1] if own else None,
            degraded=[name for name, count in letters.items() if count is None],
        )

    async def _orders(self) -> orders_pb2.GetSummaryResponse:
        since = Timestamp()
        since.FromDatetime(self._now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
        request = orders_pb2.GetSummaryRequest(since=since)
        return await rpc.invoke(self._sources.orders.GetSummary, request, step="orders.GetSummary", cap=_CAP)

    async def _payments(self) -> payments_pb2.GetSummaryResponse:
        request = payments_pb2.GetSummaryRequest()
        return await rpc.invoke(self._sources.payments.GetSummary, request, step="payments.GetSummary", cap=_CAP)

    async def _notifications(self) -> notifications_pb2.GetSummaryResponse:
        call, request = self._sources.notifications.GetSummary, notifications_pb2.GetSummaryRequest()
        return await rpc.invoke(call, request, step="notifications.GetSummary", cap=_CAP)

    async def _own(self) -> tuple[int, int]:
        with deadline_scope(_CAP):  # alone, a connection would be waited for as long as the request lasts
            async with self._sources.database.connection() as connection:
                return await count_dead_letters(connection), await incidents.count_open(connection)


async def _or_none(name: str, figures: Awaitable[T]) -> T | None:
    try:
        return await figures
    except Problem as problem:
        _log.warning("dashboard_degraded", source=name, code=problem.code)
        return None
