"""Suspending customers, and letting them in again."""

from reliability import audit
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.accounts.customers.errors import NoSuchCustomer
from services.accounts.customers.schemas import Suspension
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Kind, Status
from services.accounts.identity.service import announce
from services.accounts.mail_tokens import repository as links
from services.accounts.mail_tokens.domain import Purpose
from services.accounts.revocation.service import revoke
from services.accounts.session.domain import EndReason
from services.accounts.session.service import end_sessions

__all__ = ["CustomerService"]


class CustomerService:
    """Done before, it is done, and nothing is written down a second time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def suspend(self, customer_id: str, asked: Suspension, staff_id: str) -> None:
        """Ends every session and takes every token back. Raises `NoSuchCustomer`."""
        async with self._database.transaction("suspend customer") as connection:
            customer = await _locked(connection, customer_id)
            if customer.status is Status.SUSPENDED:
                return
            await accounts.set_status(connection, customer_id, Status.SUSPENDED)
            await end_sessions(connection, customer_id, EndReason.SUSPENDED)
            await revoke(connection, accounts=[customer_id])
            await links.void(connection, customer_id, Purpose.RESET_PASSWORD)
            await announce(connection, [customer_id])
            await audit.record(connection, staff_id, "customer.suspended", customer_id, reason=asked.reason)

    async def reinstate(self, customer_id: str, staff_id: str) -> None:
        """Lets a customer sign in again. Raises `NoSuchCustomer`."""
        async with self._database.transaction("reinstate customer") as connection:
            customer = await _locked(connection, customer_id)
            if customer.status is Status.ACTIVE:
                return
            await accounts.set_status(connection, customer_id, Status.ACTIVE)
            await announce(connection, [customer_id])
            await audit.record(connection, staff_id, "customer.reinstated", customer_id)


async def _locked(connection: Connection, customer_id: str) -> Account:
    customer = await accounts.lock(connection, customer_id, change=True) if is_id(customer_id) else None
    if customer is None or customer.kind is not Kind.CUSTOMER or customer.status is Status.ERASED:
        raise NoSuchCustomer
    return customer
