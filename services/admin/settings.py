"""What admin reads from its environment."""

from pydantic import Field

from reliability.settings import ServiceSettings

__all__ = ["AdminSettings"]


class AdminSettings(ServiceSettings):
    """Admin joins what the others know, so it knows where all of them are."""

    catalog_grpc: str
    orders_grpc: str
    payments_grpc: str
    notifications_grpc: str
    accounts_grpc: str
    shop_currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    span_retention_days: int = Field(default=7, ge=1, le=365)
