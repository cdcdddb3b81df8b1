"""Admin on a fresh database; behind it, once for all its tests, the services it calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.common.v1 import access_pb2
from reliability import rpc
from reliability.redis import Cache
from reliability.runtime import Application, Runtime
from reliability.settings import ServiceSettings
from reliability.testing import FaultProxy
from services.accounts.app import build as build_accounts
from services.accounts.settings import AccountsSettings
from services.admin.app import build as build_admin
from services.admin.settings import AdminSettings
from services.catalog.app import build as build_catalog
from services.catalog.settings import CatalogSettings
from services.notifications.app import build as build_notifications
from services.notifications.settings import NotificationsSettings
from services.orders.app import build as build_orders
from services.orders.settings import OrdersSettings
from services.payments_webhooks.app import build as build_payments
from services.payments_webhooks.settings import PaymentsSettings
from tests.integration.admin.support import Admin, Neighbour

HOST = "127.0.0.1"
NOWHERE = f"{HOST}:1"
OWNER = "owner@holdfast.example"
PASSWORD = "correct horse battery staple"
CONTACTS = 5

MakeAdmin = Callable[..., Awaitable[Admin]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


def _settings(servers: Any, kind: type[ServiceSettings], name: str, **values: object) -> Any:
    """Valid settings of a service with its own certificate."""
    tls = servers.identity(name)
    common: dict[str, object] = {
        "http_port": 1,
        "grpc_port": 1,
        "redis_url": servers.endpoints.redis,
        "accounts_grpc": NOWHERE,
        "admin_grpc": NOWHERE,
        "tls_ca_file": tls.ca,
        "tls_cert_file": tls.certificate,
        "tls_key_file": tls.key,
        "database_pool_size": 20,
    }
    return kind(**(common | values))  # type: ignore[arg-type]


class _Stage:
    """Starts services and ends them all."""

    def __init__(self, servers: Any, stack: AsyncExitStack) -> None:
        self._servers, self._stack = servers, stack

    async def start(
        self, name: str, kind: type[ServiceSettings], build: Callable[[Any], Application], **values: object
    ) -> Neighbour:
        postgres = await self._stack.enter_async_context(FaultProxy.before(self._servers.endpoints.postgres))
        url = postgres.through(await self._servers.copy(name))
        runtime = Runtime(name, _settings(self._servers, kind, name, database_url=url, **values))
        self._stack.push_async_callback(runtime.close)
        application = build(runtime)
        if application.on_start is not None:
            await application.on_start()
        server, _, port = rpc.build_server(
            application.rpcs, access_pb2.access, address=f"{HOST}:0", tls=self._servers.identity(name)
        )
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        proxy = await self._stack.enter_async_context(FaultProxy(HOST, port))
        return Neighbour(runtime, application, postgres, proxy)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def everybody(servers: Any) -> AsyncIterator[Mapping[str, Neighbour]]:
    """The five services admin calls, by name."""
    async with AsyncExitStack() as stack:
        stage = _Stage(servers, stack)
        nowhere = {f"{name}_grpc": NOWHERE for name in ("accounts", "catalog", "payments", "notifications")}
        yield {
            "catalog": await stage.start("catalog", CatalogSettings, build_catalog, accounts_grpc=NOWHERE),
            "orders": await stage.start(
                "orders",
                OrdersSettings,
                build_orders,
                cart_secret="a secret of thirty-two characters",
                **nowhere,
            ),
            "payments-webhooks": await stage.start(
                "payments-webhooks",
                PaymentsSettings,
                build_payments,
                accounts_grpc=NOWHERE,
                orders_grpc=NOWHERE,
                notifications_grpc=NOWHERE,
                stripe_api_key="sk_test_nobody",
                stripe_webhook_secret="whsec_nobody",
                stripe_api_base=f"http://{NOWHERE}",
            ),
            "notifications": await stage.start(
                "notifications",
                NotificationsSettings,
                build_notifications,
                accounts_grpc=NOWHERE,
                mail_url=f"smtp://{NOWHERE}",
                link_secret="a secret of thirty-two characters",
                mail_from="Holdfast <shop@holdfast.example>",
            ),
            "accounts": await stage.start(
                "accounts",
                AccountsSettings,
                build_accounts,
                notifications_grpc=NOWHERE,
                orders_grpc=NOWHERE,
                payments_grpc=NOWHERE,
                accounts_secret="a secret of thirty-two characters",
                signing_key_file=servers.tls / "signing.key",
                staff_email=OWNER,
                staff_password=PASSWORD,
            ),
        }


@pytest_asyncio.fixture(loop_scope="session")
async def others(everybody: Mapping[str, Neighbour]) -> AsyncIterator[Mapping[str, Neighbour]]:
    """The same five, all within reach, five contacts to write to; every fault ends with the test."""
    notifications = everybody["notifications"]
    await notifications.execute("DELETE FROM campaign_recipients")
    await notifications.execute("DELETE FROM contacts")
    await notifications.execute(
        "INSERT INTO contacts (id, email, name, marketing_consent, changed_at) "
        "SELECT uuidv7(), 'customer' || n || '@example.com', 'Customer', true, now() "
        "FROM generate_series(1, $1::int) AS n",
        CONTACTS,
    )
    yield everybody
    for neighbour in everybody.values():
        neighbour.proxy.forward()
        neighbour.postgres.forward()


@pytest_asyncio.fixture(loop_scope="session")
async def make_admin(
    servers: Any,
    cache: Cache,
    others: Mapping[str, Neighbour],
    client_for: Callable[[Application], httpx.AsyncClient],
) -> AsyncIterator[MakeAdmin]:
    """Builds the service, as in `await make_admin(span_retention_days=1)`."""
    del cache  # nothing is claimed yet
    async with AsyncExitStack() as stack:

        async def make(**overrides: object) -> Admin:
            postgres = await stack.enter_async_context(FaultProxy.before(servers.endpoints.postgres))
            valkey = await stack.enter_async_context(FaultProxy.before(servers.endpoints.redis))
            values: dict[str, object] = {
                "database_url": postgres.through(await servers.copy("admin")),
                "redis_url": valkey.through(servers.endpoints.redis),
                **{f"{name.partition('-')[0]}_grpc": other.address for name, other in others.items()},
            }
            runtime: Runtime[AdminSettings] = Runtime(
                "admin", _settings(servers, AdminSettings, "admin", **(values | overrides))
            )
            stack.push_async_callback(runtime.close)
            application = build_admin(runtime)
            return Admin(
                runtime,
                application,
                postgres,
                valkey,
                client_for(application),
                servers.tls / "signing.key",
                others,
            )

        yield make


@pytest_asyncio.fixture(loop_scope="session")
async def admin(make_admin: MakeAdmin) -> Admin:
    """The service with its defaults."""
    return await make_admin()


@pytest.fixture
def until() -> Until:
    """Waits until a condition holds, ten seconds at most."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.01)

    return wait
