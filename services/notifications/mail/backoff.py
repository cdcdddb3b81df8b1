"""How long a mail waits before it goes out again."""

import random
from typing import Final

from services.notifications.mail.domain import Outcome, Verdict

__all__ = ["seconds_until_next"]

_FACTOR: Final = 5.0
_SHORTEST: Final = 1.0
_LONGEST: Final = 60.0


def seconds_until_next(outcome: Outcome, *, attempts: int, age: float, first: float) -> float:
    """Seconds to wait after an attempt, with jitter: half to three halves of the plan.

    A server that said "later" means minutes: `first` seconds, then five times as long. A server that is away is
    looked for often at first and then, in proportion to the mail's `age`, less often, every minute at least. What
    the server itself asked for comes first.
    """
    if outcome.verdict is Verdict.TRY_LATER:
        planned = first * _FACTOR ** max(0, attempts - 1)
    else:
        planned = min(_LONGEST, max(_SHORTEST, age / 2))
    return outcome.retry_after + planned * random.uniform(0.5, 1.5)  # noqa: S311 - jitter is no secret
