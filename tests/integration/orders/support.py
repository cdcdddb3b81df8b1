"""Orders beside the real catalog, payments, notifications, accounts and admin, with a sandbox of Stripe's."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import grpc.aio
import httpx
import orjson

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2 as pb
from holdfast.orders.v1 import orders_pb2_grpc
from reliability.context import Principal
from reliability.jobs import Run
from reliability.runtime import Application, Runtime
from services.accounts.keys.service import SigningKeys
from services.orders.cart.domain import CatalogEntry
from services.orders.catalog import Catalog
from services.orders.settings import OrdersSettings
from tests.contract.stripe_sandbox_fixtures import BOUND_SECONDS, Received, Sandbox
from tests.integration.catalog.support import Shop

ADDRESS = {
    "name": "Robin Meadows",
    "line1": "12 Harbour Street",
    "city": "Portland",
    "postal_code": "97201",
    "region": "OR",
    "country": "US",
}
PERMISSIONS = frozenset({"catalog", "orders", "refunds"})


class Later:
    """A channel to a server that may not be there yet: services call one another in a circle."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        self._connect = connect

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return self._connect()

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        """`unary_unary` and its like; the RPC itself is looked up when it is called."""

        def rpc(method: str, **how: Any) -> Callable[..., Any]:
            def call(*values: Any, **options: Any) -> Any:
                return getattr(self._channel, kind)(method, **how)(*values, **options)

            return call

        return rpc


@dataclass(frozen=True)
class Mail:
    """What notifications has taken on."""

    to: str
    template: str
    data: Mapping[str, Any]
    calendar_ics: str


def key() -> dict[str, str]:
    """A header that names one click."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def unknown(_self: Catalog, _variant_ids: Any) -> dict[str, CatalogEntry]:
    """In the place of `Catalog.lately`: nobody has asked for a while."""
    return {}


@dataclass
class Orders:
    """The service under test."""

    runtimes: Mapping[str, Runtime[Any]]
    applications: Mapping[str, Application]
    shop: Shop
    sandbox: Sandbox
    keys: SigningKeys
    client_for: Callable[[Application], httpx.AsyncClient]
    rpc: "orders_pb2_grpc.OrdersServiceAsyncStub"
    staff_id: str
    delivered: list[Received] = field(default_factory=list)
    begun: int = 0

    @property
    def runtime(self) -> Runtime[OrdersSettings]:
        return self.runtimes["orders"]

    @property
    def application(self) -> Application:
        return self.applications["orders"]

    def staff(self, *permissions: str) -> httpx.AsyncClient:
        """A member of staff at admin's edge; who may do everything here unless some permissions are named."""
        may = frozenset(permissions) or PERMISSIONS
        who = Principal(self.staff_id, "staff", "ada@example.com", "Ada", "member", may)
        return self.as_customer(self.client_for(self.applications["admin"]), who)

    async def deliver(self, *, again: bool = False) -> int:
        """Hands over what Stripe has sent since, or all of it again; how many events."""
        payments = self.client_for(self.applications["payments-webhooks"])
        await self._all_sent()
        sent = self.sandbox.receiver.received[self.begun :]
        events = [each for each in sent if again or each not in self.delivered]
        for event in events:
            headers = {"stripe-signature": event.signature}
            answer = await payments.post("/api/stripe/webhook", content=event.body, headers=headers)
            assert answer.status_code == 200, answer.text
            self.delivered.append(event)
        return len(events)

    async def begin_anew(self) -> None:
        """What was sent so far is history: it is not handed over again, when its signatures have grown old."""
        await self._all_sent()
        self.delivered.clear()
        self.begun = len(self.sandbox.receiver.received)

    async def _all_sent(self) -> None:
        """Until every event of Stripe's has been sent."""
        listed = await self.sandbox.api.v1.events.list_async({"limit": 100})
        events, receiver = {event.id for event in listed.data}, self.sandbox.receiver
        async with asyncio.timeout(BOUND_SECONDS), receiver.arrived:
            await receiver.arrived.wait_for(
                lambda: events <= {orjson.loads(each.body)["id"] for each in receiver.received}
            )

    async def settle(self) -> None:
        """Stripe's word is handed over and every job run, until nobody has anything to do."""
        for _ in range(20):
            done = await self.deliver()
            for runtime in (self.runtimes["payments-webhooks"], self.runtime):
                done += await runtime.worker.run_until_idle()
            if not done:
                return
        message = "there is always something left to do"
        raise AssertionError(message)

    async def pays(self, checkout: dict[str, Any], card: str = "4242424242424242", status: int = 200) -> None:
        """What a customer does at Stripe, who tells nobody yet."""
        await self.sandbox.pay(checkout["payment"]["payment_intent_id"], card, status)

    async def mails(self) -> dict[str, Mail]:
        """What notifications has taken on, by key."""
        async with self.runtimes["notifications"].database.connection() as connection:
            rows = await connection.fetch(
                'SELECT idempotency_key, "to", template, data, calendar FROM emails ORDER BY id'
            )
        return {
            row["idempotency_key"]: Mail(row["to"], row["template"], row["data"], row["calendar"] or "") for row in rows
        }

    async def elsewhere(self, service: str, query: str, *values: object) -> Any:
        """A value of another service's."""
        async with self.runtimes[service].database.connection() as connection:
            return await connection.fetchval(query, *values)

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

    async def checkout(
        self, client: httpx.AsyncClient, *, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Clicks *order*, under a new key unless there is one in `headers`."""
        order = {"email": "robin@example.com", "shipping_address": ADDRESS, **body}
        return await client.post("/api/checkout", json=order, headers=headers or key())

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

    async def refund_fails(self, checkout: dict[str, Any], amount: int, refund: str) -> None:
        """What payments reports when a refund came back from the bank."""
        await self.rpc.RecordRefundFailed(
            pb.RecordRefundFailedRequest(
                refund_id=refund,
                order_id=checkout["order_id"],
                amount=money_pb2.Money(amount=amount, currency=checkout["total"]["currency"]),
                reason="lost_or_stolen_card",
            )
        )

    async def expire(self, *order_ids: str) -> Run:
        """The time of these orders is up, and the schedule looks; what it enqueues is still to be run."""
        await self.execute(
            "UPDATE orders SET hold_expires_at = now() - interval '1 minute' WHERE id = ANY($1::uuid[])", order_ids
        )
        return await self.runtime.worker._schedules["expired_holds"].call(datetime.now(UTC))

    async def work(self) -> int:
        """Runs every job that is due."""
        return await self.runtime.worker.run_until_idle()

    async def value(self, query: str, *values: object) -> Any:
        async with self.runtime.database.connection() as connection:
            return await connection.fetchval(query, *values)

    async def execute(self, query: str, *values: object) -> None:
        async with self.runtime.database.connection() as connection:
            await connection.execute(query, *values)
