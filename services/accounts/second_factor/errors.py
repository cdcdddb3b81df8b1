"""What can go wrong with a second factor."""

from reliability.errors import Conflict

__all__ = ["SecondFactorExists", "SecondFactorMissing"]


class SecondFactorExists(Conflict):
    """Whoever replaces it takes it away first, which needs a code of it."""

    code, title = "second_factor_exists", "This account has a second factor already; take it away first"


class SecondFactorMissing(Conflict):
    """There is none to confirm or to take away."""

    code, title = "second_factor_missing", "There is no second factor to confirm or to take away"
