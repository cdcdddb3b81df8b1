"""What comes in when somebody else vouches, and who may."""

import re
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from services.accounts.oauth.domain import own_path

__all__ = ["CallbackQuery", "OauthProvider", "ProviderName", "StartQuery"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
# What RFC 6749, appendix A, lets a code, a state and an error be of.
_VISIBLE: Final = r"^[\x20-\x7e]*$"
_AT_HOME: Final = {"localhost", "127.0.0.1", "::1"}


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be lower-case letters, digits and hyphens")
    return value


def _check_path(value: str) -> str:
    if not own_path(value):
        raise ValueError("must be a path of this site")
    return value


ProviderName = Annotated[str, AfterValidator(_check_name)]


class OauthProvider(BaseModel):
    """Somebody whose word we take for who somebody is. Without a secret we are a public client, by PKCE alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    scopes: str = "openid email profile"

    @model_validator(mode="after")
    def _safe(self) -> Self:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _AT_HOME):
            raise ValueError("an issuer is an https address (http on this machine only)")
        if "openid" not in self.scopes.split():
            raise ValueError("the scopes need openid")
        return self


class StartQuery(BaseModel):
    """Where to go afterwards."""

    return_to: Annotated[str, AfterValidator(_check_path)] = "/"


class CallbackQuery(BaseModel):
    """What the provider sends the browser back with (OpenID Connect Core 1.0, section 3.1.2.5)."""

    state: str = Field(min_length=1, max_length=200, pattern=_VISIBLE)
    code: str | None = Field(default=None, max_length=2048, pattern=_VISIBLE)
    error: str | None = Field(default=None, max_length=200, pattern=_VISIBLE)
    iss: str | None = Field(default=None, max_length=300, pattern=_VISIBLE)
