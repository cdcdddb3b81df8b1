"""What can go wrong with another address."""

from reliability.errors import Conflict

__all__ = ["EmailTaken"]


class EmailTaken(Conflict):
    """Told only to whoever reads the mail of that address."""

    code, title = "email_taken", "This address belongs to another account"
