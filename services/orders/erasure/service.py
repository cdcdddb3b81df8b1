"""Forgetting customers who erased their accounts; the figures stay."""

from reliability.errors import NotFound
from reliability.ids import is_id
from reliability.postgres import Database
from services.orders.erasure import repository

__all__ = ["ErasureService"]


class ErasureService:
    """Asked again, it forgets what has ended since."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, customer_id: str) -> bool:
        """Whether something is still going on: a parcel needs its address. Raises `NotFound`."""
        if not is_id(customer_id):
            raise NotFound(f"There is no customer {customer_id!r}.")
        nobody = f"erased-{customer_id}@erased.example"
        async with self._database.transaction("forget customer") as connection:
            await repository.forget(connection, customer_id, nobody)
            return await repository.known(connection, customer_id, nobody)
