"""What can go wrong in an address book."""

from reliability.errors import Conflict, NotFound

__all__ = ["NoSuchAddress", "TooManyAddresses"]


class NoSuchAddress(NotFound):
    """No address of yours has this id."""

    code, title = "address_not_found", "There is no such address"


class TooManyAddresses(Conflict):
    """An address book is for people."""

    code, title = "too_many_addresses", "Delete an address before you add another one"
