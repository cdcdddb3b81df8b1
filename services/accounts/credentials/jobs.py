"""Looking up who forgot a password, out of the request's sight."""

from reliability.jobs import Job, Worker
from services.accounts.credentials.service import FORGOT_PASSWORD, CredentialService

__all__ = ["register"]


def register(worker: Worker, credentials: CredentialService) -> None:
    """Registers the handlers of this capability."""

    async def forgot_password(job: Job) -> None:
        await credentials.send_reset(job.payload["request_id"], job.payload["email"])

    worker.handle(FORGOT_PASSWORD, forgot_password)
