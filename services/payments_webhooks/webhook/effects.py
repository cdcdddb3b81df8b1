"""What an event means: worked out over the network first, then written with its completion.

`Told` is asked before all that, as the event comes in: when nothing is new there is nothing to work out.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from reliability.inbox import Change, Known
from reliability.postgres import Connection
from services.payments_webhooks.webhook.domain import Event

__all__ = ["NOTHING", "Effect", "Handler", "Told"]

Effect = Change | Callable[[Connection], Awaitable[None]]
"""One statement, or what takes a transaction."""
Told = Callable[[Event], Known]
Handler = Callable[[Event], Awaitable[Effect]]
NOTHING: Final = Change("")
"""The effect of an event that needs none."""
