"""Bodies of the routes for credentials."""

from typing import Literal

from pydantic import BaseModel, Field

from services.accounts.fields import Email, Line, Password

__all__ = ["Accepted", "ChangePassword", "ForgotPassword", "ResetPassword", "SignUp", "SignedUp", "VerifyEmail"]


class SignUp(BaseModel):
    """Somebody who wants an account."""

    email: Email
    password: Password
    name: Line
    marketing_consent: bool = False


class SignedUp(BaseModel):
    """The account. Whoever has one already gets the same answer, and a mail."""

    id: str
    email: str


class VerifyEmail(BaseModel):
    """The token of a link."""

    token: str = Field(min_length=1, max_length=200)


class ForgotPassword(BaseModel):
    """Whose password was forgotten."""

    email: Email


class Accepted(BaseModel):
    """The same for every address."""

    status: Literal["accepted"] = "accepted"


class ResetPassword(BaseModel):
    """The token of a link and the password from now on."""

    token: str = Field(min_length=1, max_length=200)
    password: Password


class ChangePassword(BaseModel):
    """The password until now and the password from now on."""

    current_password: Password
    new_password: Password
