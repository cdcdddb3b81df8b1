"""Types of fields that requests have in common."""

import re
from datetime import datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator

__all__ = ["Moment", "written_out"]

_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*")


def written_out(value: object) -> object:
    """A date and time that is no number, for a `BeforeValidator`; anything else as it is. Raises `ValueError`.

    In a query everything is text, and pydantic would take a number for seconds since 1970.
    """
    if not isinstance(value, str | datetime) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        message = "must be a date and time as RFC 3339 writes them, 2026-11-28T09:30:00Z say"
        raise ValueError(message)
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(written_out)]
"""A date and time with its offset, as RFC 3339 writes them; a number is none."""
