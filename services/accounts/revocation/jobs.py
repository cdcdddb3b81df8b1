"""Publishing what was taken back."""

from datetime import datetime

from reliability.jobs import Job, Run, Snooze, Worker
from reliability.redis import CacheUnavailable
from services.accounts.revocation.service import PUBLISH, RevocationService

__all__ = ["register"]

# While Redis is away the services ask us. When it is back its list must be whole before they believe it again.
_AWAY_SECONDS = 1.0


def register(worker: Worker, revocations: RevocationService) -> None:
    """Registers the handlers and schedules of this capability."""

    async def publish(_job: Job) -> None:
        try:
            await revocations.publish()
        except CacheUnavailable:
            raise Snooze(_AWAY_SECONDS) from None

    async def again(_scheduled_for: datetime) -> Run:
        """Redis may have lost the list: without it every service asks us."""
        try:
            await revocations.publish()
        except CacheUnavailable:
            return Run(failed=1)
        return Run(processed=await revocations.prune())

    worker.handle(PUBLISH, publish)
    worker.every(60, "publish_revocations", again)
