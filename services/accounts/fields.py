"""What a name and an address may be, for every body that holds one."""

import unicodedata
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

__all__ = ["Email", "Line", "Password", "email_of", "known_as"]

_LONGEST_EMAIL = 254


def _check_email(value: str) -> str:
    try:
        found = validate_email(value.strip(), check_deliverability=False, allow_smtputf8=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return found.ascii_email or found.normalized


def _check_line(value: str) -> str:
    """One line of text: it goes into mails and their headers."""
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise ValueError("must be one line without control characters")
    if not value.strip():
        raise ValueError("must not be blank")
    return value.strip()


def email_of(value: str) -> str | None:
    """An address that somebody else told us, as we write it; None when it is none."""
    try:
        return _check_email(value) if len(value) <= _LONGEST_EMAIL else None
    except ValueError:
        return None


def known_as(typed: str) -> str:
    """An address as it is counted and looked up, the same for every way to write it.

    What the database takes for the same must be one subject to a limit: there, the lower case of a dotted capital I
    is a plain i, and here it is not. Our addresses are all ASCII; what cannot become one is nobody's.
    """
    return (email_of(typed) or typed.strip()).lower()


Email = Annotated[str, Field(min_length=3, max_length=_LONGEST_EMAIL), AfterValidator(_check_email)]
Line = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_line)]
Password = Annotated[str, Field(min_length=1, max_length=1024)]
