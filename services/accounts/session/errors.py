"""What can go wrong when signing in."""

from reliability.errors import Unauthenticated

__all__ = ["InvalidCredentials"]


class InvalidCredentials(Unauthenticated):
    """Wrong address, wrong password, no password or a suspended account: nobody is told which."""

    code, title = "invalid_credentials", "The address or the password is wrong"
