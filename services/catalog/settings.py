"""What catalog reads from its environment."""

from datetime import timedelta

from pydantic import Field

from reliability.settings import ServiceSettings


class CatalogSettings(ServiceSettings):
    """Beyond what every service reads."""

    accounts_grpc: str
    hold_backstop_seconds: float = Field(
        default=600.0,
        ge=0,
        description="How long after its end a hold is given back here, should orders not have done so",
    )

    @property
    def hold_backstop(self) -> timedelta:
        """`hold_backstop_seconds` as a duration."""
        return timedelta(seconds=self.hold_backstop_seconds)
