"""The dashboard's answer."""

from typing import Self

from pydantic import BaseModel

from services.admin.dashboard.domain import Dashboard

__all__ = ["DashboardResponse", "Money"]


class Money(BaseModel):
    """Integer minor units, ISO 4217."""

    amount: int
    currency: str


class DashboardResponse(BaseModel):
    """Figures since midnight UTC; null where a service did not answer, which `degraded` then names.

    `open_incidents` counts incidents that are not resolved, and dead letters of all services.
    """

    orders_today: int | None
    revenue_today: Money | None
    revenue_by_currency: list[Money] | None
    pending_orders: int | None
    failed_emails: int | None
    parked_webhooks: int | None
    open_incidents: int | None
    degraded: list[str]

    @classmethod
    def of(cls, figures: Dashboard, currency: str) -> Self:
        """The answer in a shop whose own currency is `currency`."""
        revenue = figures.revenue_today
        amount, main = revenue.main(currency) if revenue else (0, currency)
        by_currency = sorted(revenue.by_currency.items()) if revenue else []
        return cls(
            orders_today=figures.orders_today,
            revenue_today=Money(amount=amount, currency=main) if revenue else None,
            revenue_by_currency=[Money(amount=a, currency=c) for c, a in by_currency] if revenue else None,
            pending_orders=figures.pending_orders,
            failed_emails=figures.failed_emails,
            parked_webhooks=figures.parked_webhooks,
            open_incidents=figures.open_incidents,
            degraded=list(figures.degraded),
        )
