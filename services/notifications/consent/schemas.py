"""Bodies of preferences."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from services.notifications.mail.domain import Topic

__all__ = ["PreferenceChange", "Preferences", "WebhookAnswer"]


class PreferenceChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    news: bool | None = None
    cart_reminders: bool | None = None
    back_in_stock: bool | None = None

    def wishes(self) -> dict[Topic, bool]:
        """Topic by topic."""
        values: dict[str, Any] = self.model_dump(exclude_none=True)
        return {Topic(name): wanted for name, wanted in values.items()}


class Preferences(BaseModel):
    """What goes to a customer; `pending` waits for a click in the mail we sent."""

    news: bool
    cart_reminders: bool
    back_in_stock: bool
    pending: list[Topic] = []


class WebhookAnswer(BaseModel):
    """That an event is stored."""

    received: bool = True
    duplicate: bool
