"""Forgetting old spans."""

from datetime import datetime

from reliability.jobs import Run, Worker
from services.admin.traces.service import TraceService

__all__ = ["register"]


def register(worker: Worker, traces: TraceService) -> None:
    """Registers the schedules of this capability."""

    async def prune(_scheduled_for: datetime) -> Run:
        return Run(processed=await traces.prune())

    worker.every(3600, "prune_spans", prune)
