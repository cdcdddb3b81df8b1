"""Use cases of accounts."""

from collections.abc import Sequence

from reliability import jobs
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.accounts.email_change import repository as email_changes
from services.accounts.identity import repository
from services.accounts.identity.domain import Account, NewCustomer
from services.accounts.passwords import Passwords

__all__ = ["CUSTOMER_CHANGED", "FORGET_CUSTOMER", "IdentityService", "announce", "forget"]

CUSTOMER_CHANGED = "customer_changed"
FORGET_CUSTOMER = "forget_customer"
# Full jitter up to five minutes makes this about eight hours: notifications may be away for a night.
_ATTEMPTS = 200
# What was on its way is over a day later: mails have arrived, payments have ended.
_LATER_SECONDS = 24 * 3600.0

_log = get_logger(__name__)


class IdentityService:
    """Creates accounts and finds them again."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def register_customers(self, new: Sequence[NewCustomer]) -> int:
        """Adds the customers whose address is free and tells about them; how many there were."""
        async with self._database.transaction("register customers") as connection:
            added = await repository.add_customers(connection, new)
            await announce(connection, added)
        return len(added)

    async def customer(self, customer_id: str) -> Account | None:
        """A customer as it is now."""
        async with self._database.connection() as connection:
            return await repository.by_id(connection, customer_id)

    async def taken(self, email: str) -> bool:
        """Whether somebody has this address."""
        async with self._database.connection() as connection:
            return await repository.email_taken(connection, email)

    async def ensure_first_owner(self, email: str, password: str) -> None:
        """Makes sure somebody can sign in to a new shop; an existing account is left as it is."""
        async with self._database.connection() as connection:
            if await repository.email_taken(connection, email):
                return
        hashed = await self._passwords.hash(password)
        async with self._database.transaction("first owner") as connection:
            # Another replica may have been faster since we looked.
            if await repository.add_owner(connection, email, "Owner", hashed):
                _log.info("first_owner_created")


async def announce(connection: Connection, customer_ids: Sequence[str]) -> None:
    """Queues telling the others, in the transaction of the change.

    The job names the customer only: whenever it runs, it tells what is true by then.
    """
    await jobs.enqueue_many(
        connection,
        [
            jobs.NewJob(
                CUSTOMER_CHANGED,
                {"customer_id": customer_id},
                order_key=f"customer:{customer_id}",
                max_attempts=_ATTEMPTS,
            )
            for customer_id in customer_ids
        ],
    )


async def forget(connection: Connection, account: Account) -> None:
    """Queues telling the others to forget an account, in the transaction that erases it, before it does.

    Only proven addresses are named: whoever signs up with another's address could have their mails forgotten. The job
    is the only place that still knows them; done, it is deleted within a day.
    """
    known = [account.email, *await email_changes.former(connection, account.id)] if account.email_verified else [""]
    await jobs.enqueue_many(
        connection,
        [
            jobs.NewJob(
                FORGET_CUSTOMER, {"customer_id": account.id, "email": email}, delay=delay, max_attempts=_ATTEMPTS
            )
            for email in dict.fromkeys(known)
            for delay in (0.0, _LATER_SECONDS)
        ],
    )
