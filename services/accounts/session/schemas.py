"""Bodies of the session routes."""

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["LoginRequest", "LoginResponse", "SessionResponse", "User"]


class LoginRequest(BaseModel):
    """An address and a password."""

    email: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=1024)


class User(BaseModel):
    """Who is signed in."""

    id: str
    email: str
    name: str
    role: str


class LoginResponse(BaseModel):
    """The access token, for clients that are no browsers, and whom it speaks for."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme, not a secret
    expires_in: int
    user: User


class SessionResponse(BaseModel):
    """Who am I; `user` is null for somebody anonymous."""

    user: User | None
