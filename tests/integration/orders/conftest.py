"""Orders as a whole, on real databases, beside the real services it calls and a sandbox of Stripe's."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import httpx
import pytest_asyncio

from holdfast.orders.v1 import orders_pb2_grpc
from reliability.ids import new_id
from reliability.runtime import Application, Runtime
from services.accounts.app import build as build_accounts
from services.accounts.keys.service import SigningKeys
from services.accounts.settings import AccountsSettings
from services.admin.app import build as build_admin
from services.admin.settings import AdminSettings
from services.catalog.app import build as build_catalog
from services.catalog.products.service import ProductService
from services.catalog.settings import CatalogSettings
from services.catalog.stock.service import StockService
from services.notifications.app import build as build_notifications
from services.notifications.settings import NotificationsSettings
from services.orders.app import build
from services.orders.settings import OrdersSettings
from services.payments_webhooks.app import build as build_payments
from services.payments_webhooks.settings import PaymentsSettings
from tests.contract.stripe_sandbox_fixtures import API_KEY, WEBHOOK_SECRET, Sandbox
from tests.integration.catalog.support import Shop
from tests.integration.orders.support import Later, Orders
from tests.integration.payments.conftest import sandbox, web

__all__ = ["sandbox", "shop_orders", "web"]

ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]
SECRET = "a secret of thirty-two characters"
ADDRESSES = {f"{name}_grpc": name for name in ("accounts", "admin", "catalog", "notifications", "orders", "payments")}


@pytest_asyncio.fixture(loop_scope="session")
async def shop_orders(
    sandbox: Sandbox,
    servers: Any,
    runtime_for: Callable[..., Awaitable[Runtime[Any]]],
    serve_rpc: ServeRpc,
    client_for: Callable[[Application], httpx.AsyncClient],
    cache: Any,
) -> Orders:
    """The service with its defaults, and a catalog with empty shelves. Jobs run when a test says so."""
    del cache  # nothing is claimed yet
    parts: dict[str, tuple[type[Any], Callable[[Any], Application], dict[str, object]]] = {
        "catalog": (CatalogSettings, build_catalog, {"database_pool_size": 20}),
        "accounts": (
            AccountsSettings,
            build_accounts,
            {"accounts_secret": SECRET, "signing_key_file": servers.tls / "signing.key"},
        ),
        "payments-webhooks": (
            PaymentsSettings,
            build_payments,
            {
                "stripe_api_key": API_KEY,
                "stripe_webhook_secret": WEBHOOK_SECRET,
                "stripe_api_base": sandbox.url,
                "reconcile_grace_seconds": 0,
                "database_pool_size": 20,
            },
        ),
        "notifications": (
            NotificationsSettings,
            build_notifications,
            {"mail_url": "smtp://127.0.0.1:1", "link_secret": SECRET, "mail_from": "Holdfast <shop@holdfast.example>"},
        ),
        "admin": (AdminSettings, build_admin, {}),
        "orders": (OrdersSettings, build, {"database_pool_size": 20, "cart_secret": SECRET}),
    }
    channels: dict[str, Later] = {}
    runtimes: dict[str, Runtime[Any]] = {}
    applications: dict[str, Application] = {}
    connects: dict[str, Callable[[str], grpc.aio.Channel]] = {}
    for name, (settings, build_part, values) in parts.items():
        addresses = {key: value for key, value in ADDRESSES.items() if key in settings.model_fields}
        runtime = await runtime_for(name, settings, public_url="http://shop.test", **addresses, **values)

        def channel(address: str, caller: str = name) -> Later:
            service = "payments-webhooks" if address == "payments" else address
            return channels.setdefault(f"{caller}:{service}", Later(lambda: connects[service](caller)))

        runtime.channel = channel  # type: ignore[method-assign, assignment]
        runtimes[name], applications[name] = runtime, build_part(runtime)
        connects[name] = await serve_rpc(applications[name])
    catalog = runtimes["catalog"]
    shop = Shop(catalog, applications["catalog"], ProductService(catalog.database), StockService(catalog.database))
    stub = orders_pb2_grpc.OrdersServiceStub(connects["orders"]("payments-webhooks"))
    keys = SigningKeys.load(servers.tls / "signing.key")
    return Orders(runtimes, applications, shop, sandbox, keys, client_for, stub, new_id())
