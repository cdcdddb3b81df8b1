"""Bodies of the profile routes."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from services.accounts.fields import Email, Line
from services.accounts.identity.domain import Account

__all__ = ["ChangeProfile", "Export", "Profile"]


class ChangeProfile(BaseModel):
    """What is left out stays. Another address counts when both the old one and the new one have confirmed it."""

    name: Line | None = None
    email: Email | None = None
    marketing_consent: bool | None = None


class Profile(BaseModel):
    """An account as its owner sees it."""

    id: str
    email: str
    name: str
    role: str
    email_verified: bool
    pending_email: str | None
    marketing_consent: bool
    has_password: bool
    second_factor: bool
    created_at: datetime

    @classmethod
    def of(cls, account: Account, pending_email: str | None) -> Self:
        """The view of an account."""
        return cls(
            id=account.id,
            email=account.email,
            name=account.name,
            role=account.role,
            email_verified=account.email_verified,
            pending_email=pending_email,
            marketing_consent=account.marketing_consent,
            has_password=account.password_hash is not None,
            second_factor=account.totp_secret is not None,
            created_at=account.created_at,
        )


class Export(BaseModel):
    """Everything accounts holds about somebody. Orders, mails and payments are listed by the routes of their owners."""

    exported_at: datetime
    profile: Profile
    addresses: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    sign_ins: list[dict[str, Any]]
    email_changes: list[dict[str, Any]]
