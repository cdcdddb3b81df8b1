"""Asks every service for its dead letters, and tells all of them to forget what is past retention."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1 import operations_pb2 as pb
from reliability import audit, idempotency, jobs, rpc
from reliability.errors import NotFound, Problem
from reliability.jobs import Run, queue
from reliability.logging import get_logger
from reliability.postgres import Database
from reliability.retention import PURGE
from services.admin.operations.domain import DeadLetter, JobId, Page, Place
from services.admin.operations.errors import NoSuchJob

if TYPE_CHECKING:
    from holdfast.common.v1.operations_pb2_grpc import OperationsServiceAsyncStub

__all__ = ["OperationsService"]

_CAP: Final = 2.0
_RUN_CAP: Final = 5.0
_ASKED: Final = "job.redrive_asked"
_REDRIVEN: Final = "job.redriven"
_NOT_FOUND: Final = "job.redrive_not_found"

T = TypeVar("T")

_log = get_logger(__name__)


class OperationsService:
    """Knows every service, admin itself too."""

    def __init__(self, stubs: "Mapping[str, OperationsServiceAsyncStub]", database: Database, *, own_name: str) -> None:
        self._stubs = stubs
        self._database = database
        self._own_name = own_name

    async def dead_letters(self, before: Place | None, limit: int) -> Page:
        """Up to `limit` of all services, the last parked first. One that does not answer is named."""
        names = [*self._stubs, self._own_name]
        answers = await asyncio.gather(
            *(_or_none(name, self._of(name, before, limit)) for name in self._stubs),
            _or_none(self._own_name, self._own(before, limit)),
        )
        found = [letter for letters in answers if letters is not None for letter in letters]
        found.sort(key=lambda letter: letter.place, reverse=True)
        return Page(found[:limit], [name for name, answer in zip(names, answers, strict=True) if answer is None])

    async def redrive(self, text: str, staff_id: str) -> JobId:
        """Lets a dead letter be tried again. Raises `NoSuchJob`, and what the service's channel raises."""
        job = JobId.parse(text)
        if job is None or (job.service != self._own_name and job.service not in self._stubs):
            raise NoSuchJob
        found = await (
            self._redrive_own(job, staff_id) if job.service == self._own_name else self._redrive(job, staff_id)
        )
        if not found:
            raise NoSuchJob
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

    async def _redrive_own(self, job: JobId, staff_id: str) -> bool:
        async with self._database.transaction("redrive job") as connection:
            found = await jobs.redrive(connection, job.number)
            await audit.record(connection, staff_id, _REDRIVEN if found else _NOT_FOUND, str(job))
        return found

    async def _redrive(self, job: JobId, staff_id: str) -> bool:
        """Not every service keeps an audit: that it was asked for is written before it is, what came of it after.

        Asked once: were an answer lost and the question repeated, the job would be queued and yet not be found.
        """
        await self._note(_ASKED, job, staff_id)
        call, request = self._stubs[job.service].RedriveJob, pb.RedriveJobRequest(job_id=job.number)
        try:
            await rpc.invoke(call, request, step=f"{job.service}.RedriveJob", cap=_CAP, attempts=1)
        except Problem as problem:
            if problem.status != NotFound.status:
                raise
            await self._note(_NOT_FOUND, job, staff_id)
            return False
        await self._note(_REDRIVEN, job, staff_id)
        return True

    async def _note(self, action: str, job: JobId, staff_id: str) -> None:
        async with self._database.transaction("note redrive") as connection:
            await audit.record(connection, staff_id, action, str(job))

    async def _purge(self, name: str) -> pb.RunScheduleResponse:
        call, request = self._stubs[name].RunSchedule, pb.RunScheduleRequest(schedule=PURGE)
        return await rpc.invoke(call, request, step=f"{name}.RunSchedule", cap=_RUN_CAP, attempts=1)

    async def _of(self, name: str, before: Place | None, limit: int) -> list[DeadLetter]:
        request = pb.ListDeadLettersRequest(limit=limit)
        if before is not None:
            stamp = Timestamp()
            stamp.FromDatetime(before.parked_at.astimezone(UTC))
            request.parked_before.CopyFrom(stamp)
            request.id_before = before.id_before(name)
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

    async def _own(self, before: Place | None, limit: int) -> list[DeadLetter]:
        async with self._database.connection() as connection:
            at, number = (before.parked_at, before.id_before(self._own_name)) if before else (None, 0)
            rows: list[Any] = await queue.dead_letters(connection, at, limit, id_before=number)
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
