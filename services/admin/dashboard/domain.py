"""Figures of a day, and what is missing from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Dashboard", "Revenue"]


@dataclass(frozen=True, slots=True)
class Revenue:
    """Money in minor units by currency."""

    by_currency: Mapping[str, int]

    def main(self, currency: str) -> tuple[int, str]:
        """The figure to show first: the shop's own currency, whatever else was taken."""
        return self.by_currency.get(currency, 0), currency


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What every service said of itself; None where it did not answer.

    `dead_letters` is by service: jobs that ran out of attempts and wait for somebody.
    """

    orders_today: int | None
    revenue_today: Revenue | None
    pending_orders: int | None
    failed_emails: int | None
    parked_webhooks: int | None
    dead_letters: Mapping[str, int]
    incidents: int | None
    degraded: Sequence[str]

    @property
    def open_incidents(self) -> int | None:
        """What waits for a person: incidents that are not resolved, and dead letters of all services.

        None when a service is missing, for a sum without it would look better than things are.
        """
        if self.degraded or self.incidents is None:
            return None
        return self.incidents + sum(self.dead_letters.values())
