"""What comes in about customers."""

from pydantic import BaseModel, Field

__all__ = ["Suspension"]


class Suspension(BaseModel):
    """Why somebody is let in no more; kept for good, so no personal data."""

    reason: str | None = Field(default=None, max_length=500)
