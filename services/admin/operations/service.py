"""Asks every service for its dead letters, and tells all of them to forget what is past retention."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1 import operations_pb2 as pb
from reliability import audit, idempotency, jobs, rpc
from reliability.errors import NotFound, Problem
from reliability.jobs import Run, queue
from reliability.logging import get_logger
from reliability.postgres import Database
from reliability.retention import PURGE
from services.admin.operations.domain import DeadLetter, JobId, Page
from services.admin.operations.errors import NoSuchJob

if TYPE_CHECKING:
    from holdfast.common.v1.operations_pb2_grpc import OperationsServiceAsyncStub

__all__ = ["OperationsService"]

_CAP: Final = 2.0
_RUN_CAP: Final = 5.0

T = TypeVar("T")

_log = get_logger(__name__)


class OperationsService:
    """Knows every service, admin itself too."""

    def __init__(self, stubs: "Mapping[str, OperationsServiceAsyncStub]", database: Database, *, own_name: str) -> None:
        self._stubs = stubs
        self._database = database
        self._own_name = own_name

    async def dead_letters(self, before: datetime | None, limit: int) -> Page:
        """Up to `limit` of all services, the last parked first. One that does not answer is named."""
        names = [*self._stubs, self._own_name]
        answers = await asyncio.gather(
            *(_or_none(name, self._of(name, before, limit)) for name in self._stubs),
            _or_none(self._own_name, self._own(before, limit)),
        )
        found = [letter for letters in answers if letters is not None for letter in letters]
        found.sort(key=lambda letter: letter.parked_at, reverse=True)
        return Page(found[:limit], [name for name, answer in zip(names, answers, strict=True) if answer is None])

    async def redrive(self, text: str, staff_id: str) -> JobId:
        """Lets a dead letter be tried again. Raises `NoSuchJob`, and what the service's channel raises."""
        job = JobId.parse(text)
        if job is None or (job.service != self._own_name and job.service not in self._stubs):
            raise NoSuchJob
        # Not every service keeps an audit; what is written here is that it was asked for, before it is.
        async with self._database.transaction("redrive job") as connection:
            await audit.record(connection, staff_id, "job.redriven", str(job))
            if job.service == self._own_name:
                if not await jobs.redrive(connection, job.number):
                    raise NoSuchJob
                return job
        try:
            request = pb.RedriveJobRequest(job_id=job.number)
            await rpc.invoke(self._stubs[job.service].RedriveJob, request, step=f"{job.service}.RedriveJob", cap=_CAP)
        except Problem as problem:
            if problem.status == NotFound.status:
                raise NoSuchJob from None
            raise
        return job

    async def purge(self) -> Run:
        """Runs every service's purge and admin's own. One that is away, or takes longer, counts as failed."""
        answers = await asyncio.gather(*(_or_none(name, self._purge(name)) for name in self._stubs))
        processed = sum(answer.processed for answer in answers if answer is not None)
        failed = sum(answer is None or not answer.finished for answer in answers)
        while True:
            async with self._database.transaction("purge expired") as connection:
                deleted = await idempotency.purge(connection)
            processed += deleted
            if not deleted:
                return Run(processed, failed)

    async def _purge(self, name: str) -> pb.RunScheduleResponse:
        call, request = self._stubs[name].RunSchedule, pb.RunScheduleRequest(schedule=PURGE)
        return await rpc.invoke(call, request, step=f"{name}.RunSchedule", cap=_RUN_CAP, attempts=1)

    async def _of(self, name: str, before: datetime | None, limit: int) -> list[DeadLetter]:
        request = pb.ListDeadLettersRequest(limit=limit)
        if before is not None:
            stamp = Timestamp()
            stamp.FromDatetime(before.astimezone(UTC))
            request.parked_before.CopyFrom(stamp)
        call = self._stubs[name].ListDeadLetters
        answer = await rpc.invoke(call, request, step=f"{name}.ListDeadLetters", cap=_CAP)
        return [
            DeadLetter(
                id=JobId(name, item.id),
                kind=item.kind,
                attempts=item.attempts,
                error=item.error,
                correlation_id=item.correlation_id,
                created_at=item.created_at.ToDatetime(tzinfo=UTC),
                parked_at=item.parked_at.ToDatetime(tzinfo=UTC),
            )
            for item in answer.items
        ]

    async def _own(self, before: datetime | None, limit: int) -> list[DeadLetter]:
        async with self._database.connection() as connection:
            rows: list[Any] = await queue.dead_letters(connection, before, limit)
        return [
            DeadLetter(
                id=JobId(self._own_name, row["id"]),
                kind=row["kind"],
                attempts=row["attempt"],
                error=row["last_error"] or "",
                correlation_id=row["correlation_id"],
                created_at=row["created_at"],
                parked_at=row["finished_at"],
            )
            for row in rows
        ]


async def _or_none(name: str, answer: Awaitable[T]) -> T | None:
    try:
        return await answer
    except Problem as problem:
        _log.warning("service_did_not_answer", source=name, code=problem.code)
        return None
