"""What to do when the task is cancelled in the middle of something that has to come to an end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["being_cancelled", "uninterrupted"]

T = TypeVar("T")


async def uninterrupted(step: Coroutine[Any, Any, T]) -> T:
    """Waits for `step` however often the task is cancelled meanwhile, then lets the cancellation go on.

    The step must be bounded by itself.
    """
    running = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as error:
            cancelled = None if running.cancelled() else error
        except BaseException:  # noqa: BLE001 - the step's own failure, raised below
            break
    if cancelled is not None:
        raise cancelled
    return running.result()


def being_cancelled() -> bool:
    """Whether somebody asked the current task to stop.

    A `CancelledError` alone does not say so: grpc.aio raises one when its channel closes.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
