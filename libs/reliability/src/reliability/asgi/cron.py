"""Schedules over HTTP: an outside scheduler asks for a run and is told what became of it.

Endpoint per schedule; who may ask is a machine whose token names the schedule's scope, once per token:

    endpoints=[cron(runtime.worker, "abandoned-carts", "abandoned_carts"), ...]
"""

from datetime import datetime

from pydantic import BaseModel

from reliability.asgi.endpoint import Access, Answer, Call, Endpoint, KeyRule
from reliability.jobs import StoredRun, Worker

__all__ = ["RunView", "cron"]


class RunView(BaseModel):
    """A run as it is stored: `started_at` is null while it waits, `finished_at` while it works."""

    id: int
    job: str
    scheduled_for: datetime
    started_at: datetime | None
    finished_at: datetime | None
    processed: int
    failed: int

    @classmethod
    def of(cls, run: StoredRun) -> "RunView":
        """The stored run."""
        return cls(
            id=run.id,
            job=run.job,
            scheduled_for=run.scheduled_for,
            started_at=run.started_at,
            finished_at=run.finished_at,
            processed=run.processed,
            failed=run.failed,
        )


def cron(worker: Worker, name: str, schedule: str, *, wait: float = 5.0) -> Endpoint:
    """`POST /api/cron/<name>` runs the schedule now and answers its stored run.

    200 when the run is over; 202 when it is not after `wait` seconds: it goes on all the same. The token's scope is
    `name`. Two at once are two runs, and every schedule has to bear that.
    """

    async def run(_call: Call) -> Answer:
        stored = await worker.trigger(schedule, wait=wait)
        return Answer(RunView.of(stored), 200 if stored.finished_at else 202)

    return Endpoint(
        "POST",
        f"/api/cron/{name}",
        run,
        access=Access.SCHEDULER,
        permission=name,
        key=KeyRule.IGNORED,
        answer=RunView,
        answers={202: RunView},
        summary=f"Run {schedule.replace('_', ' ')} now",
    )
