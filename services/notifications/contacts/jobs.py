"""The job that forgets who was erased while mail was on its way."""

from reliability.jobs import Job, Worker
from services.notifications.contacts.service import FORGET, ContactService
from services.notifications.schemas import CustomerErasure

__all__ = ["register"]


def register(worker: Worker, service: ContactService) -> None:
    """Makes `worker` forget."""

    async def forget(job: Job) -> None:
        await service.forget(job, CustomerErasure.model_validate(job.payload))

    worker.handle(FORGET, forget)
