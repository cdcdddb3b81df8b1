"""What can go wrong with links and passwords."""

from reliability.errors import InvalidRequest

__all__ = ["InvalidLink"]


class InvalidLink(InvalidRequest):
    """Never ours, used, or too old: nobody is told which."""

    code, title = "invalid_token", "This link does not work any more; ask for another one"
