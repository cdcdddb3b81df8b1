"""Telling notifications about customers."""

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from reliability import rpc
from reliability.jobs import Job, Worker
from services.accounts.identity.service import CUSTOMER_CHANGED, IdentityService

__all__ = ["register"]


def register(
    worker: Worker, identity: IdentityService, notifications: "notifications_pb2_grpc.NotificationsServiceAsyncStub"
) -> None:
    """Registers the handlers of this capability."""

    async def customer_changed(job: Job) -> None:
        """Hands on the customer as it is now. Twice does no harm: the receiver keeps the latest `changed_at`."""
        customer = await identity.customer(job.payload["customer_id"])
        if customer is None:
            return  # gone since; its removal is told by a job of its own
        changed_at = Timestamp()
        changed_at.FromDatetime(customer.changed_at)
        request = notifications_pb2.RecordCustomerChangedRequest(
            customer_id=customer.id,
            email=customer.email,
            name=customer.name,
            marketing_consent=customer.consents,
            changed_at=changed_at,
        )
        await rpc.invoke(
            notifications.RecordCustomerChanged, request, step="notifications.RecordCustomerChanged", attempts=1
        )

    worker.handle(CUSTOMER_CHANGED, customer_changed)
