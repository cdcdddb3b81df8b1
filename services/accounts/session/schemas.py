"""Bodies of the session routes."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from services.accounts.second_factor.schemas import OneTimeCode, RecoveryCode
from services.accounts.session.domain import StoredSession

__all__ = ["LoginRequest", "LoginResponse", "SessionItem", "SessionList", "SessionResponse", "User"]


class LoginRequest(BaseModel):
    """An address and a password, and a code of whoever has a second factor: of the clock, or one kept for need."""

    email: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=1024)
    totp: OneTimeCode | None = None
    recovery_code: RecoveryCode | None = None


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


class SessionItem(BaseModel):
    """A device that is signed in. `current` is the one that asks."""

    id: str
    device: str
    client_address: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool

    @classmethod
    def of(cls, session: StoredSession, current: str) -> Self:
        """The item for a session."""
        return cls(
            id=session.id,
            device=session.device.name,
            client_address=session.device.client,
            created_at=session.created_at,
            last_used_at=session.rotated_at,
            expires_at=session.expires_at,
            current=session.id == current,
        )


class SessionList(BaseModel):
    """All of them: nobody has so many that they need pages."""

    items: list[SessionItem]
    next_cursor: str | None = None
