"""What payments reads from its environment."""

from pydantic import Field, SecretStr, field_validator

from reliability.settings import ServiceSettings

__all__ = ["PaymentsSettings"]


class PaymentsSettings(ServiceSettings):
    """Payments calls Stripe, orders and notifications, asks accounts for keys, tells admin what staff did."""

    accounts_grpc: str
    admin_grpc: str
    notifications_grpc: str
    orders_grpc: str
    stripe_api_key: SecretStr = Field(min_length=8)
    stripe_webhook_secret: SecretStr = Field(min_length=8)
    stripe_api_base: str = "https://api.stripe.com"

    reconcile_grace_seconds: float = Field(default=60.0, ge=0)
    """How long a webhook may take before its absence counts as drift."""

    @field_validator("stripe_api_base")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    def webhook_secrets(self) -> list[str]:
        """All that are valid now: several while a secret is rotated, separated by commas."""
        return [part.strip() for part in self.stripe_webhook_secret.get_secret_value().split(",") if part.strip()]
