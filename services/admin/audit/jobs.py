"""Watching over the audit log."""

from datetime import datetime

from reliability.jobs import Run, Worker
from services.admin.audit.service import AuditService

__all__ = ["register"]


def register(worker: Worker, audit: AuditService) -> None:
    """Registers the schedules of this capability."""

    async def verify(_scheduled_for: datetime) -> Run:
        return Run(processed=1, failed=await audit.watch())

    worker.every(3600, "verify_audit_log", verify)
