"""Keeping an address book: while there are addresses, one of them is the default."""

from typing import Final

from reliability import idempotency
from reliability.context import Principal
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from services.accounts.addresses import repository
from services.accounts.addresses.errors import NoSuchAddress, TooManyAddresses
from services.accounts.addresses.schemas import AddressView, ChangeAddress, NewAddress
from services.accounts.identity import repository as accounts

__all__ = ["AddressService"]

_MOST: Final = 50


class AddressService:
    """Everything here is about whoever asks. The account's row lock puts changes of one book in line."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def book(self, who: Principal) -> list[AddressView]:
        """All addresses."""
        async with self._database.connection() as connection:
            return await repository.book(connection, who.id)

    async def add(self, who: Principal, address: NewAddress) -> AddressView:
        """Adds an address; the first is the default. Raises `TooManyAddresses`."""
        async with self._database.transaction("add address") as connection:
            claim = await idempotency.claim(connection, who.id)
            await accounts.lock(connection, who.id, change=True)
            known = await repository.book(connection, who.id)
            if len(known) >= _MOST:
                raise TooManyAddresses
            address_id = await repository.add(connection, who.id, address)
            if address.is_default or not known:
                await repository.make_default(connection, who.id, address_id)
            view = await self._own(connection, who, address_id)
            await claim.store(connection, 201, view.model_dump(mode="json"))
        return view

    async def change(self, who: Principal, address_id: str, asked: ChangeAddress) -> AddressView:
        """Changes what is given. Raises `NoSuchAddress`."""
        async with self._database.transaction("change address") as connection:
            claim = await idempotency.claim(connection, who.id)
            await accounts.lock(connection, who.id, change=True)
            known = await self._own(connection, who, address_id)
            values = {**known.model_dump(), **asked.model_dump(exclude_unset=True)}
            await repository.change(connection, who.id, address_id, values)
            view = await self._own(connection, who, address_id)
            await claim.store(connection, 200, view.model_dump(mode="json"))
        return view

    async def remove(self, who: Principal, address_id: str) -> None:
        """Deletes an address; of those that are left the newest becomes the default. Raises `NoSuchAddress`."""
        async with self._database.transaction("remove address") as connection:
            await accounts.lock(connection, who.id, change=True)
            await self._own(connection, who, address_id)
            was_default = await repository.remove(connection, who.id, address_id)
            if was_default and (left := await repository.book(connection, who.id)):
                await repository.make_default(connection, who.id, left[0].id)

    async def make_default(self, who: Principal, address_id: str) -> AddressView:
        """Makes an address the one that is offered first. Raises `NoSuchAddress`."""
        async with self._database.transaction("default address") as connection:
            claim = await idempotency.claim(connection, who.id)
            await accounts.lock(connection, who.id, change=True)
            await self._own(connection, who, address_id)
            await repository.make_default(connection, who.id, address_id)
            view = await self._own(connection, who, address_id)
            await claim.store(connection, 200, view.model_dump(mode="json"))
        return view

    async def _own(self, connection: Connection, who: Principal, address_id: str) -> AddressView:
        found = await repository.find(connection, who.id, address_id) if is_id(address_id) else None
        if found is None:
            raise NoSuchAddress
        return found
