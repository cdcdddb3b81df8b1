"""What orders reads from its environment."""

from pydantic import Field, SecretStr

from reliability.settings import ServiceSettings

__all__ = ["OrdersSettings"]


class OrdersSettings(ServiceSettings):
    """Orders calls catalog, payments and notifications, asks accounts for keys, tells admin what staff did."""

    accounts_grpc: str
    admin_grpc: str
    catalog_grpc: str
    payments_grpc: str
    notifications_grpc: str
    cart_secret: SecretStr = Field(min_length=32)
    hold_ttl_seconds: int = Field(default=900, ge=1, le=86_400)
