"""Orders beside the real catalog; what payments, notifications and accounts would say is said by stand-ins."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc.aio
import httpx

from holdfast.common.v1 import money_pb2
from holdfast.notifications.v1 import notifications_pb2 as mail_pb
from holdfast.notifications.v1 import notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2 as pb
from holdfast.orders.v1 import orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2 as pay_pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability.context import Principal
from reliability.runtime import Application, Runtime
from services.accounts.keys.service import SigningKeys
from services.orders.settings import OrdersSettings
from tests.integration.catalog.support import Shop

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
ADDRESS = {
    "name": "Robin Meadows",
    "line1": "12 Harbour Street",
    "city": "Portland",
    "postal_code": "97201",
    "region": "OR",
    "country": "US",
}


class Till(payments_pb2_grpc.PaymentsServiceServicer):
    """Payments: an intent per order, ended when asked unless `says` has another word for it."""

    def __init__(self) -> None:
        self.says: dict[str, int] = {}
        self.cancelled: list[str] = []
        self.refunds: dict[str, pay_pb.RefundPaymentRequest] = {}

    async def CreateIntent(  # noqa: N802
        self, request: pay_pb.CreateIntentRequest, context: Context
    ) -> pay_pb.CreateIntentResponse:
        return pay_pb.CreateIntentResponse(payment_intent_id=f"pi_{request.order_id}", client_secret="secret")

    async def CancelIntent(  # noqa: N802
        self, request: pay_pb.CancelIntentRequest, context: Context
    ) -> pay_pb.CancelIntentResponse:
        self.cancelled.append(request.order_id)
        status: Any = self.says.get(request.order_id, pay_pb.INTENT_STATUS_CANCELED)
        return pay_pb.CancelIntentResponse(status=status)

    async def RefundPayment(  # noqa: N802
        self, request: pay_pb.RefundPaymentRequest, context: Context
    ) -> pay_pb.RefundPaymentResponse:
        self.refunds.setdefault(request.idempotency_key, request)
        return pay_pb.RefundPaymentResponse(refund_id=request.idempotency_key)


class Post(notifications_pb2_grpc.NotificationsServiceServicer):
    """Notifications: one mail per key."""

    def __init__(self) -> None:
        self.mails: dict[str, mail_pb.SendEmailRequest] = {}

    async def SendEmail(  # noqa: N802
        self, request: mail_pb.SendEmailRequest, context: Context
    ) -> mail_pb.SendEmailResponse:
        self.mails.setdefault(request.idempotency_key, request)
        return mail_pb.SendEmailResponse(email_id=request.idempotency_key)


def key() -> dict[str, str]:
    """A header that names one click."""
    return {"Idempotency-Key": str(uuid.uuid4())}


@dataclass
class Orders:
    """The service under test."""

    runtime: Runtime[OrdersSettings]
    application: Application
    shop: Shop
    till: Till
    post: Post
    keys: SigningKeys
    client_for: Callable[[Application], httpx.AsyncClient]
    rpc: "orders_pb2_grpc.OrdersServiceAsyncStub"
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def guest(self) -> httpx.AsyncClient:
        """Somebody with a browser."""
        return self.client_for(self.application)

    def customer(self, name: str = "robin", customer_id: str | None = None) -> httpx.AsyncClient:
        """Somebody who is signed in."""
        who = Principal(customer_id or str(uuid.uuid4()), "customer", f"{name}@example.com", name)
        return self.as_customer(self.guest(), who)

    def as_customer(self, client: httpx.AsyncClient, who: Principal) -> httpx.AsyncClient:
        """Signs a client in; it keeps its cookies."""
        client.headers["Authorization"] = f"Bearer {self.keys.access_token(who)}"
        return client

    async def buy(self, client: httpx.AsyncClient, *variants: object, quantity: int = 1, **body: Any) -> dict[str, Any]:
        """Puts variants into the cart and orders them."""
        for variant in variants:
            await self.add(client, variant, quantity)
        answer = await self.checkout(client, **body)
        assert answer.status_code == 201, answer.text
        checkout: dict[str, Any] = answer.json()
        return checkout

    async def add(self, client: httpx.AsyncClient, variant: object, quantity: int = 1) -> dict[str, Any]:
        """Puts pieces into the cart."""
        answer = await client.post("/api/cart/items", json={"variant_id": str(variant), "quantity": quantity})
        assert answer.status_code == 201, answer.text
        cart: dict[str, Any] = answer.json()
        return cart

    async def checkout(self, client: httpx.AsyncClient, **body: Any) -> httpx.Response:
        """Clicks *order*."""
        order = {"email": "robin@example.com", "shipping_address": ADDRESS, **body}
        return await client.post("/api/checkout", json=order, headers=key())

    async def pay(self, checkout: dict[str, Any], intent: str = "") -> int:
        """What payments reports when the money has come."""
        total = checkout["total"]
        answer = await self.rpc.RecordPayment(
            pb.RecordPaymentRequest(
                payment_intent_id=intent or checkout["payment"]["payment_intent_id"],
                order_id=checkout["order_id"],
                amount=money_pb2.Money(**total),
            )
        )
        return answer.outcome

    async def refunded(self, checkout: dict[str, Any], amount: int, refund: str, intent: str = "") -> None:
        """What payments reports when money has gone back."""
        money = money_pb2.Money(amount=amount, currency=checkout["total"]["currency"])
        await self.rpc.RecordRefund(
            pb.RecordRefundRequest(
                refund_id=refund, order_id=checkout["order_id"], amount=money, payment_intent_id=intent
            )
        )

    async def work(self) -> int:
        """Runs every job that is due."""
        return await self.runtime.worker.run_until_idle()

    async def value(self, query: str, *values: object) -> Any:
        async with self.runtime.database.connection() as connection:
            return await connection.fetchval(query, *values)

    async def execute(self, query: str, *values: object) -> None:
        async with self.runtime.database.connection() as connection:
            await connection.execute(query, *values)
