"""What operators need of every service, over its own database: run a schedule, see dead letters, try them again."""

from datetime import UTC
from typing import Any, Final

from reliability.errors import NotFound
from reliability.jobs import Worker, queue
from reliability.postgres import Database

__all__ = ["operations_servicer"]

# An operator's request has seconds; a run that takes longer goes on without it.
_WAIT: Final = 3.0
_MOST: Final = 200


def operations_servicer(worker: Worker, database: Database, messages: Any) -> Any:
    """A servicer of `RunSchedule`, `ListDeadLetters` and `RedriveJob`.

    `messages` is the generated module of a proto with these RPCs' messages, as in `holdfast.common.v1.operations`.
    """
    return _Operations(worker, database, messages)


class _Operations:
    """Translates."""

    def __init__(self, worker: Worker, database: Database, messages: Any) -> None:
        self._worker = worker
        self._database = database
        self._pb = messages

    async def RunSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """See the proto."""
        del context
        try:
            run = await self._worker.trigger(request.schedule, wait=_WAIT)
        except KeyError:
            message = f"There is no schedule {request.schedule!r}."
            raise NotFound(message) from None
        finished = run.finished_at is not None
        return self._pb.RunScheduleResponse(finished=finished, processed=run.processed, failed=run.failed)

    async def ListDeadLetters(self, request: Any, context: Any) -> Any:  # noqa: N802
        """See the proto."""
        del context
        before = request.parked_before.ToDatetime(tzinfo=UTC) if request.HasField("parked_before") else None
        async with self._database.connection() as connection:
            rows = await queue.dead_letters(
                connection, before, min(max(request.limit, 1), _MOST), id_before=request.id_before
            )
        items = [
            self._pb.DeadLetter(
                id=row["id"],
                kind=row["kind"],
                attempts=row["attempt"],
                error=row["last_error"] or "",
                correlation_id=row["correlation_id"],
                created_at=row["created_at"],
                parked_at=row["finished_at"],
            )
            for row in rows
        ]
        return self._pb.ListDeadLettersResponse(items=items)

    async def RedriveJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        """See the proto."""
        del context
        async with self._database.transaction("redrive job") as connection:
            if not await queue.redrive(connection, request.job_id):
                message = f"There is no dead letter {request.job_id}."
                raise NotFound(message)
        return self._pb.RedriveJobResponse()
