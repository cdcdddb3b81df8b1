"""The address book over HTTP."""

from reliability.asgi import Access, Answer, Call, Endpoint
from services.accounts.addresses.schemas import AddressBook, AddressView, ChangeAddress, NewAddress
from services.accounts.addresses.service import AddressService
from services.accounts.session.routes import PRIVATE, me

__all__ = ["AddressRoutes"]

_BOOK = "/api/me/addresses"


class AddressRoutes:
    """Decode, call, encode."""

    def __init__(self, addresses: AddressService) -> None:
        self._addresses = addresses

    def endpoints(self) -> list[Endpoint]:
        """The table."""
        customer, one = Access.CUSTOMER, f"{_BOOK}/{{id}}"
        return [
            Endpoint("GET", _BOOK, self._show, access=customer, answer=AddressBook),
            Endpoint("POST", _BOOK, self._add, access=customer, body=NewAddress, answer=AddressView, status=201),
            Endpoint("PATCH", one, self._change, access=customer, body=ChangeAddress, answer=AddressView),
            Endpoint("DELETE", one, self._remove, access=customer, status=204),
            Endpoint("POST", f"{one}/default", self._default, access=customer, answer=AddressView),
        ]

    async def _show(self, _call: Call) -> Answer:
        return Answer(AddressBook(items=await self._addresses.book(me())), headers=PRIVATE)

    async def _add(self, call: Call) -> Answer:
        return Answer(await self._addresses.add(me(), call.body), 201)

    async def _change(self, call: Call) -> Answer:
        return Answer(await self._addresses.change(me(), call.path("id"), call.body))

    async def _remove(self, call: Call) -> Answer:
        await self._addresses.remove(me(), call.path("id"))
        return Answer(status=204)

    async def _default(self, call: Call) -> Answer:
        return Answer(await self._addresses.make_default(me(), call.path("id")))
