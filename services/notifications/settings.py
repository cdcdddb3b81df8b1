"""Typed environment of notifications."""

from email.utils import parseaddr
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, UrlConstraints, model_validator
from pydantic_core import Url

from reliability.settings import ServiceSettings
from services.notifications.schemas import Address, check_address, check_line

__all__ = ["NotificationsSettings"]

# smtp: in the clear; smtp+starttls: upgraded or not used at all; smtps: TLS from the first byte.
# resend+https: Resend's API, its key before the @; resend+http: a stand-in for it on this machine.
_SCHEMES = ["smtp", "smtp+starttls", "smtps", "resend+https", "resend+http"]
MailUrl = Annotated[Url, UrlConstraints(allowed_schemes=_SCHEMES, host_required=True)]


def _check_sender(value: str) -> str:
    name, address = parseaddr(check_line(value))
    check_address(address)
    check_line(name)
    return value


class NotificationsSettings(ServiceSettings):
    """What notifications reads beyond what every service does."""

    accounts_grpc: str
    admin_grpc: str
    mail_url: MailUrl
    mail_from: Annotated[str, AfterValidator(_check_sender)]
    # Who hears of mail that matters and was not delivered; the sender when it is not set.
    mail_staff: Address | None = None
    mail_connections: int = Field(default=10, ge=1, le=100)
    # The first wait after the server said "later"; the second is five times as long.
    mail_retry_seconds: float = Field(default=30.0, gt=0)
    campaign_batch: int = Field(default=50, ge=1, le=1000)
    # How many batches of one campaign are queued or running at once: the rest of the worker is for other mail.
    campaign_lanes: int = Field(default=2, ge=1, le=32)
    # Mails a second, all workers together.
    campaign_rate: int = Field(default=200, ge=1, le=10_000)
    # Signs the links in mails: as long as it is kept, every link ever sent works.
    link_secret: SecretStr = Field(min_length=32)
    # The mail provider's, separated by commas while one is rotated; without any no webhook is believed.
    mail_webhook_secret: SecretStr | None = None

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Each of `mail_webhook_secret`."""
        given = self.mail_webhook_secret.get_secret_value() if self.mail_webhook_secret else ""
        return tuple(secret.strip() for secret in given.split(",") if secret.strip())

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        url = self.mail_url
        if url.scheme.startswith("resend") and not url.username:
            raise ValueError("mail_url names no API key: resend+https://<key>@api.resend.com")
        secret = {"smtp": url.password, "resend+http": url.username}.get(url.scheme)
        if secret and not _is_loopback(url.host or ""):
            message = "mail_url would send its password in the clear: use smtps://, smtp+starttls:// or resend+https://"
            raise ValueError(message)
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
