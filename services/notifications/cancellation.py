"""Finishing what must not be left half done.

A drain cancels the running job. Between handing a mail to the server and writing down what became of it,
that would turn a mail that was sent into one nobody knows about.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["uninterrupted"]

T = TypeVar("T")


async def uninterrupted(step: Awaitable[T]) -> T:
    """The result of `step`, which runs to its end even when this task is cancelled meanwhile.

    The cancellation is raised once `step` has ended, whatever became of it: keep `step` short.
    """
    running = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # looked at, so that nobody is warned of a failure nobody waits for any more
        raise cancelled
    return running.result()
