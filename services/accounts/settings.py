"""What accounts reads from its environment."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from reliability.settings import ServiceSettings
from services.accounts.keys.service import SigningKeys
from services.accounts.oauth.schemas import OauthProvider, ProviderName

__all__ = ["AccountsSettings"]


class AccountsSettings(ServiceSettings):
    """The signing key is read at once: a service that cannot sign tokens does not start."""

    admin_grpc: str
    notifications_grpc: str
    orders_grpc: str
    payments_grpc: str
    accounts_secret: SecretStr = Field(min_length=32)
    signing_key_file: Path
    access_token_seconds: int = Field(default=900, ge=60, le=3600)
    oauth_providers: dict[ProviderName, OauthProvider] = Field(default_factory=dict)
    """Whose word is taken for who a customer is, by the name in the routes, as JSON; nobody's by default."""
    staff_email: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
    staff_password: SecretStr | None = Field(default=None, min_length=12, max_length=1024)

    @field_validator("signing_key_file")
    @classmethod
    def _usable(cls, path: Path) -> Path:
        SigningKeys.load(path)
        return path

    @model_validator(mode="after")
    def _first_owner_is_whole(self) -> Self:
        if (self.staff_email is None) != (self.staff_password is None):
            raise ValueError("give STAFF_EMAIL and STAFF_PASSWORD together, or neither")
        return self
