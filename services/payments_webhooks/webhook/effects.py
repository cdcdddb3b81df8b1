"""What an event means: worked out over the network first, then written with its completion.

`Told` is asked before all that, as the event comes in: when nothing is new there is nothing to work out.
"""

from collections.abc import Awaitable, Callable

from reliability.inbox import Change, Known
from reliability.postgres import Connection
from services.payments_webhooks.webhook.domain import Event

__all__ = ["Effect", "Handler", "Told", "nothing"]

Effect = Change | Callable[[Connection], Awaitable[None]]
"""One statement, or what takes a transaction."""
Told = Callable[[Event], Known]
Handler = Callable[[Event], Awaitable[Effect]]


async def nothing(_connection: Connection) -> None:
    """The effect of an event that needs none."""
