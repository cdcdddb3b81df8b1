"""A job that is born in the hands of a worker: whoever enqueues it beside a free one spares it the claim.

The statement that enqueues it makes it `running` under a lease of that worker. Whoever dies between that and the
handler's first step leaves what a dead worker leaves, and the lease tells.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from reliability.jobs.model import Job
from reliability.jobs.queue import wake

__all__ = ["NO_OFFER", "Offer"]


class Offer:
    """A place of a worker, kept free as long as this is entered. Its `lease` goes into the statement, in seconds.

    With 0 there is none: the job is queued as any other, and the statement may be part of a transaction.
    """

    def __init__(self, lease: float, take: Callable[[Job], None], leave: Callable[[], None]) -> None:
        self.lease = lease
        self._take = take
        self._leave = leave

    def __enter__(self) -> Self:
        """The place was taken when this was made."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the place back, if no job has it by now."""
        self._leave()

    def accept(self, born: Mapping[str, Any] | None) -> None:
        """Begins the job that `enqueueing` gave back; None where it gave none.

        One that was queued after all is told of as usual: without a lease, or behind another with its order key.
        """
        if born is None:
            return
        if born["state"] == "queued":
            wake()
            return
        self._take(
            Job(
                id=born["id"],
                kind=born["kind"],
                payload=born["payload"],
                attempt=born["attempt"],
                max_attempts=born["max_attempts"],
                fence=born["fence"],
                correlation_id=born["correlation_id"],
                trace=born["trace"],
                order_key=born["order_key"],
            )
        )


def _nothing(_job: object = None) -> None:
    """There is no place to give back, and no worker to tell."""


NO_OFFER: Final = Offer(0.0, _nothing, _nothing)
"""No place: for statements within a transaction, and for whoever has no worker."""
