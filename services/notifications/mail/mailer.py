"""The port to whoever delivers mail."""

from collections.abc import Sequence
from typing import Protocol

from services.notifications.mail.domain import Message, Outcome

__all__ = ["Batches", "Mailer"]


class Batches(Protocol):
    """Many mails in one request, recognised when it comes again."""

    size: int
    """How many mails one request takes."""

    def pack(self, messages: Sequence[Message]) -> bytes:
        """The request, byte for byte as it will go out; it is stored before it does."""
        ...

    async def ship(self, key: str, packed: bytes) -> list[Outcome]:
        """Sends a packed batch under `key`: one outcome for each of its mails, in their order. Never raises."""
        ...


class Mailer(Protocol):
    """Hands mail to whoever delivers it."""

    @property
    def remembers(self) -> float:
        """For how many seconds the same mail, or batch, is recognised and not sent twice; 0 when it never is."""
        ...

    @property
    def batches(self) -> Batches | None:
        """How to send many at once; None when there is no such thing."""
        ...

    async def send(self, message: Message) -> Outcome:
        """Tries once, for 8 seconds at most, and says what is known afterwards. Never raises for a mail's sake."""
        ...

    async def close(self) -> None:
        """Closes connections that are kept for the next mail."""
        ...
