"""The port to whoever delivers mail."""

from typing import Protocol

from services.notifications.mail.domain import Message, Outcome

__all__ = ["Mailer"]


class Mailer(Protocol):
    """Hands one mail to a mail server."""

    async def send(self, message: Message) -> Outcome:
        """Tries once, for 8 seconds at most, and says what is known afterwards. Never raises for a mail's sake."""
        ...
