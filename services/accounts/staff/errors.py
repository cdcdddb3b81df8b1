"""What can go wrong with staff."""

from reliability.errors import Conflict, NotFound, PermissionDenied

__all__ = ["BeyondYourPermissions", "LastOwner", "NoSuchStaff"]


class NoSuchStaff(NotFound):
    """Nobody on the staff has this id."""

    code, title = "staff_not_found", "There is no such member of staff"


class LastOwner(Conflict):
    """Somebody must be left who may do everything, and can sign in."""

    code, title = "last_owner", "This is the last owner; make somebody else one first"


class BeyondYourPermissions(PermissionDenied):
    """Nobody gives, or takes away from somebody, more than they have themselves."""

    code, title = "beyond_your_permissions", "You may not give or take what you do not have yourself"
