"""Telling the others about customers."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2, orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2, payments_pb2_grpc
from reliability import rpc
from reliability.jobs import Job, Snooze, Worker
from services.accounts.identity.service import CUSTOMER_CHANGED, FORGET_CUSTOMER, IdentityService

__all__ = ["Others", "register"]

_AGAIN_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Others:
    """Who else knows customers."""

    notifications: "notifications_pb2_grpc.NotificationsServiceAsyncStub"
    orders: "orders_pb2_grpc.OrdersServiceAsyncStub"
    payments: "payments_pb2_grpc.PaymentsServiceAsyncStub"


def register(worker: Worker, identity: IdentityService, others: Others) -> None:
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
            others.notifications.RecordCustomerChanged, request, step="notifications.RecordCustomerChanged", attempts=1
        )

    async def forget_customer(job: Job) -> None:
        """Has everybody forget them, and asks again while somebody cannot: a parcel is on its way. Mails come last."""
        customer_id, email = job.payload["customer_id"], job.payload["email"]
        if email and await identity.taken(email):
            email = ""  # it is somebody's again: what is found by it may be theirs
        bill = payments_pb2.ForgetCustomerRequest(customer_id=customer_id, email=email)
        parcel = orders_pb2.ForgetCustomerRequest(customer_id=customer_id, email=email)
        charged = await rpc.invoke(others.payments.ForgetCustomer, bill, step="payments.ForgetCustomer", attempts=1)
        ordered = await rpc.invoke(others.orders.ForgetCustomer, parcel, step="orders.ForgetCustomer", attempts=1)
        # The contact goes by its id; the address, for what was sent to it.
        erased = notifications_pb2.RecordCustomerErasedRequest(
            customer_id=customer_id, email=email or f"erased-{customer_id}@erased.example"
        )
        await rpc.invoke(
            others.notifications.RecordCustomerErased, erased, step="notifications.RecordCustomerErased", attempts=1
        )
        if charged.kept or ordered.kept:
            raise Snooze(_AGAIN_SECONDS)

    worker.handle(CUSTOMER_CHANGED, customer_changed)
    worker.handle(FORGET_CUSTOMER, forget_customer)
