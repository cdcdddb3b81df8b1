"""What an event means: worked out over the network first, then written in one transaction with its completion."""

from collections.abc import Awaitable, Callable

from reliability.postgres import Connection
from services.payments_webhooks.webhook.domain import Event

__all__ = ["Effect", "Handler", "nothing"]

Effect = Callable[[Connection], Awaitable[None]]
Handler = Callable[[Event], Awaitable[Effect]]


async def nothing(_connection: Connection) -> None:
    """The effect of an event that needs none."""
