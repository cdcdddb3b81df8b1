"""What can go wrong with a profile."""

from reliability.errors import Conflict

__all__ = ["StaffAccount"]


class StaffAccount(Conflict):
    """Staff cannot erase themselves: the audit log names them."""

    code, title = "staff_account", "This is an account of staff; an owner can suspend it"
