"""Forgetting customers who erased their accounts: nothing is charged any more, no card is kept, the figures stay."""

from reliability.errors import NotFound
from reliability.ids import is_id
from reliability.postgres import Database
from services.payments_webhooks.customer.service import CustomerService
from services.payments_webhooks.erasure import repository
from services.payments_webhooks.subscription.service import SubscriptionService

__all__ = ["ErasureService"]


class ErasureService:
    """Asked again, it does what was not done, and forgets what has ended since."""

    def __init__(self, database: Database, subscriptions: SubscriptionService, customers: CustomerService) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._customers = customers

    async def forget(self, account_id: str, email: str) -> bool:
        """Whether something is still going on. Raises `NotFound`, `Unavailable`."""
        if not is_id(account_id):
            raise NotFound(f"There is no customer {account_id!r}.")
        async with self._database.connection() as connection:
            live = await repository.live(connection, account_id)
        for subscription_id in live:
            await self._subscriptions.end_now(subscription_id)
        await self._customers.forget_cards(account_id)
        nobody = f"erased-{account_id}@erased.example"
        async with self._database.transaction("forget customer") as connection:
            await repository.forget(connection, account_id, email, nobody)
            return await repository.known(connection, account_id, email, nobody)
