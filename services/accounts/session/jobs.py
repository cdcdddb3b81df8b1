"""Forgetting sessions past retention."""

from datetime import datetime

from reliability.jobs import Run, Worker
from services.accounts.session.service import SessionService

__all__ = ["register"]


def register(worker: Worker, sessions: SessionService) -> None:
    """Registers the schedules of this capability."""

    async def prune(_scheduled_for: datetime) -> Run:
        return Run(processed=await sessions.prune())

    worker.every(3600, "prune_sessions", prune)
