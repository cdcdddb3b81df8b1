"""Payments beside the real orders and a sandbox of Stripe's; what Stripe sends is handed over by the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest_asyncio
import stripe
from starlette.applications import Starlette
from starlette.routing import Route

from holdfast.common.v1 import money_pb2
from holdfast.payments.v1 import payments_pb2 as pb
from holdfast.payments.v1 import payments_pb2_grpc
from reliability import rpc
from reliability.context import Principal
from reliability.ids import new_id
from reliability.runtime import Application, Runtime
from sandbox.stripe.app import create_app
from sandbox.stripe.settings import Settings
from services.accounts.app import build as build_accounts
from services.accounts.keys.service import SigningKeys
from services.accounts.settings import AccountsSettings
from services.admin.app import build as build_admin
from services.admin.settings import AdminSettings
from services.notifications.app import build as build_notifications
from services.notifications.settings import NotificationsSettings
from services.orders.app import build as build_orders
from services.orders.settings import OrdersSettings
from services.payments_webhooks.app import build as build_payments
from services.payments_webhooks.settings import PaymentsSettings
from tests.contract.stripe_sandbox_fixtures import (
    API_KEY,
    BOUND_SECONDS,
    WEBHOOK_SECRET,
    Clock,
    Received,
    Receiver,
    Sandbox,
    Servers,
    sdk,
)

NOWHERE = "127.0.0.1:1"
TOTAL = 1500


@dataclass(frozen=True, slots=True)
class Shop:
    """Payments, orders and Stripe. Nothing happens by itself: a test delivers events and runs jobs."""

    sandbox: Sandbox
    payments: Runtime[PaymentsSettings]
    orders: Runtime[OrdersSettings]
    notifications: Runtime[NotificationsSettings]
    admin: Runtime[AdminSettings]
    application: Application
    http: httpx.AsyncClient
    stub: "payments_pb2_grpc.PaymentsServiceAsyncStub"
    connect: Callable[[str], grpc.aio.Channel]
    keys: SigningKeys

    async def order(self, total: int = TOTAL, *, of: Principal | None = None) -> str:
        """A pending order's id; a guest's unless it is somebody's."""
        async with self.orders.database.transaction() as connection:
            return str(await connection.fetchval(_ORDER, total, of.id if of else None))

    def customer(self, name: str = "ada") -> Principal:
        """Somebody with an account."""
        return Principal(id=new_id(), kind="customer", email=f"{name}@example.com", name=name)

    async def ask(
        self, who: Principal | None, method: str, path: str, body: Any = None, *, key: str | None = "", **headers: str
    ) -> httpx.Response:
        """A request of somebody's; a new Idempotency-Key unless one is given, or None."""
        if who is not None:
            headers["authorization"] = f"Bearer {self.keys.access_token(who)}"
        if key is not None:
            headers["idempotency-key"] = key or new_id()
        return await self.http.request(method, f"/api/payments{path}", json=body, headers=headers)

    async def create_intent(self, order_id: str, amount: int = TOTAL) -> pb.CreateIntentResponse:
        """As orders asks for it."""
        money = money_pb2.Money(amount=amount, currency="USD")
        request = pb.CreateIntentRequest(order_id=order_id, attempt=1, amount=money, email="a@example.com")
        return await rpc.invoke(self.stub.CreateIntent, request, step="payments.CreateIntent", attempts=1)

    async def refund(self, key: str, intent: str, amount: int = TOTAL, currency: str = "USD") -> str:
        """As orders asks for it; our refund's id."""
        money = money_pb2.Money(amount=amount, currency=currency)
        request = pb.RefundPaymentRequest(idempotency_key=key, payment_intent_id=intent, amount=money, reason="test")
        return (await rpc.invoke(self.stub.RefundPayment, request, step="payments.RefundPayment")).refund_id

    async def paid(self, order_id: str) -> str:
        """Lets the customer pay and Stripe tell; the intent."""
        intent = (await self.create_intent(order_id)).payment_intent_id
        await self.sandbox.pay(intent)
        await self.deliver(await self.event("payment_intent.succeeded", intent))
        await self.work()
        return intent

    async def event(self, event_type: str, about: str) -> Received:
        """The newest event of a type about an object, as Stripe sent it."""
        receiver = self.sandbox.receiver

        def arrived() -> list[Received]:
            return [each for each in receiver.of(event_type) if about.encode() in each.body]

        async with asyncio.timeout(BOUND_SECONDS), receiver.arrived:
            await receiver.arrived.wait_for(arrived)
        return arrived()[-1]

    async def deliver(self, *events: Received) -> None:
        """Hands events over in this order."""
        for event in events:
            answer = await self.http.post(
                "/api/stripe/webhook", content=event.body, headers={"stripe-signature": event.signature}
            )
            assert answer.status_code == 200, answer.text

    async def work(self) -> None:
        """Runs the jobs of payments that are due, and those that become due by it."""
        await self.payments.worker.run_until_idle()

    async def value(self, query: str, *arguments: Any) -> Any:
        """One value of payments' database."""
        async with self.payments.database.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows of payments' database."""
        async with self.payments.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Changes payments' database."""
        async with self.payments.database.transaction() as connection:
            await connection.execute(statement, *arguments)

    async def of_orders(self, query: str, *arguments: Any) -> Any:
        """One value of orders' database."""
        async with self.orders.database.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def mails(self) -> list[tuple[str, str]]:
        """Template and recipient of what notifications has taken on, oldest first."""
        async with self.notifications.database.connection() as connection:
            rows = await connection.fetch('SELECT template, "to" FROM emails ORDER BY id')
        return [(row["template"], row["to"]) for row in rows]

    async def audited(self) -> list[tuple[str, str, str]]:
        """Who did what to what, as admin's log has it."""
        async with self.admin.database.connection() as connection:
            rows = await connection.fetch("SELECT actor, action, subject FROM audit_log ORDER BY happened_at")
        return [(row["actor"], row["action"], row["subject"]) for row in rows]

    async def intents(self) -> list[stripe.PaymentIntent]:
        """What Stripe has."""
        return list((await self.sandbox.api.v1.payment_intents.list_async({"limit": 100})).data)

    async def faults_left(self) -> int:
        """How many calls will still meet a fault."""
        return sum(fault["remaining"] for fault in await self.sandbox.get("/_sandbox/faults"))


_ORDER = """
WITH cart AS (INSERT INTO carts DEFAULT VALUES RETURNING id),
placed AS (
    INSERT INTO orders (cart_id, email, shipping_address, shipping_method, currency, subtotal, discount, shipping, tax,
                        total, hold_expires_at, correlation_id, customer_id)
    SELECT id, 'a@example.com', '{"name": "A"}', 'standard', 'USD', $1::bigint, 0, 0, 0, $1::bigint,
           now() + interval '15 minutes', 'flow-1', $2::uuid
      FROM cart RETURNING id),
line AS (
    INSERT INTO order_lines (order_id, variant_id, sku, title, quantity, unit_price, line_total)
    SELECT id, uuidv7(), 'SKU', 'Thing', 1, $1::bigint, $1::bigint FROM placed)
SELECT id::text FROM placed
"""

RuntimeFor = Callable[..., Awaitable[Runtime[Any]]]
ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]
ClientFor = Callable[[Application], httpx.AsyncClient]


@pytest_asyncio.fixture(scope="session")
async def web() -> AsyncIterator[Servers]:
    """Where Stripe and the receiver of its webhooks are served."""
    running = Servers()
    yield running
    await running.stopped()


@pytest_asyncio.fixture
async def sandbox(tmp_path: Path, web: Servers) -> AsyncIterator[Sandbox]:
    """A Stripe whose webhooks are kept until the test hands them over."""
    receiver, clock = Receiver(), Clock()
    hook = Starlette(routes=[Route("/hook", receiver.take, methods=["POST"])])
    async with web.serve(hook) as url:
        settings = Settings("127.0.0.1", 0, API_KEY, f"{url}/hook", (WEBHOOK_SECRET,), tmp_path / "stripe.db")
        async with (
            web.serve(create_app(settings, clock)) as base,
            httpx.AsyncClient(base_url=base, verify=False) as http,
        ):
            yield Sandbox(base, sdk(base), http, receiver, clock)


@pytest_asyncio.fixture
async def shop(
    sandbox: Sandbox, runtime_for: RuntimeFor, serve_rpc: ServeRpc, client_for: ClientFor, servers: Any
) -> Shop:
    """Everything on fresh databases."""
    keys = SigningKeys.load(servers.tls / "signing.key")
    accounts = await runtime_for(
        "accounts",
        AccountsSettings,
        admin_grpc=NOWHERE,
        notifications_grpc=NOWHERE,
        orders_grpc=NOWHERE,
        payments_grpc=NOWHERE,
        accounts_secret=new_id(),
        signing_key_file=servers.tls / "signing.key",
    )
    to_accounts = await serve_rpc(build_accounts(accounts))
    nowhere = {"catalog_grpc": NOWHERE, "payments_grpc": NOWHERE, "notifications_grpc": NOWHERE}
    orders = await runtime_for("orders", OrdersSettings, cart_secret=new_id(), **nowhere)
    to_orders = await serve_rpc(build_orders(orders))
    notifications = await runtime_for(
        "notifications",
        NotificationsSettings,
        accounts_grpc=NOWHERE,
        admin_grpc=NOWHERE,
        mail_url=f"smtp://{NOWHERE}",
        mail_from="Holdfast <shop@holdfast.example>",
        link_secret=new_id(),
    )
    to_notifications = await serve_rpc(build_notifications(notifications))
    elsewhere = {f"{name}_grpc": NOWHERE for name in ("catalog", "orders", "payments", "notifications", "accounts")}
    admin = await runtime_for("admin", AdminSettings, **elsewhere)
    to_admin = await serve_rpc(build_admin(admin))
    payments = await runtime_for(
        "payments-webhooks",
        PaymentsSettings,
        orders_grpc="orders",
        accounts_grpc="accounts",
        notifications_grpc="notifications",
        admin_grpc="admin",
        public_url="http://shop.test",
        stripe_api_key=API_KEY,
        stripe_webhook_secret=WEBHOOK_SECRET,
        stripe_api_base=sandbox.url,
    )
    channels = {
        "orders": to_orders,
        "accounts": to_accounts,
        "notifications": to_notifications,
        "admin": to_admin,
    }
    payments.channel = lambda address: channels[address]("payments-webhooks")  # type: ignore[method-assign]
    application = build_payments(payments)
    to_payments = await serve_rpc(application)
    stub = payments_pb2_grpc.PaymentsServiceStub(to_payments("orders"))
    http = client_for(application)
    return Shop(sandbox, payments, orders, notifications, admin, application, http, stub, to_payments, keys)
