"""Orders as a whole, on a real database, beside the real catalog and accounts."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc.aio
import httpx
import pytest_asyncio

from holdfast.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from holdfast.orders.v1 import orders_pb2_grpc
from holdfast.payments.v1 import payments_pb2, payments_pb2_grpc
from reliability.runtime import Application, Runtime
from services.accounts.app import build as build_accounts
from services.accounts.keys.service import SigningKeys
from services.accounts.settings import AccountsSettings
from services.catalog.app import build as build_catalog
from services.catalog.products.service import ProductService
from services.catalog.settings import CatalogSettings
from services.catalog.stock.service import StockService
from services.orders.app import build
from services.orders.settings import OrdersSettings
from tests.integration.catalog.support import Shop
from tests.integration.orders.support import Orders, Post, Till

ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]


@pytest_asyncio.fixture(loop_scope="session")
async def shop_orders(
    servers: Any,
    runtime_for: Callable[..., Awaitable[Runtime[Any]]],
    serve_rpc: ServeRpc,
    client_for: Callable[[Application], httpx.AsyncClient],
    monkeypatch: Any,
) -> Orders:
    """The service with its defaults, and a catalog with empty shelves."""
    catalog = await runtime_for("catalog", CatalogSettings, database_pool_size=20)
    catalog_application = build_catalog(catalog)
    shop = Shop(catalog, catalog_application, ProductService(catalog.database), StockService(catalog.database))
    keys, till, post = SigningKeys.load(servers.tls / "signing.key"), Till(), Post()  # type: ignore[abstract]
    others = Application(
        rpcs={
            payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"]: partial(
                payments_pb2_grpc.add_PaymentsServiceServicer_to_server, till
            ),
            notifications_pb2.DESCRIPTOR.services_by_name["NotificationsService"]: partial(
                notifications_pb2_grpc.add_NotificationsServiceServicer_to_server, post
            ),
        }
    )
    accounts = await runtime_for(
        "accounts",
        AccountsSettings,
        admin_grpc="others",
        notifications_grpc="others",
        accounts_secret="a secret of thirty-two characters",
        signing_key_file=servers.tls / "signing.key",
    )
    connect = {
        "catalog": await serve_rpc(catalog_application),
        "accounts": await serve_rpc(build_accounts(accounts)),
        "others": await serve_rpc(others),
    }
    runtime = await runtime_for(
        "orders",
        OrdersSettings,
        database_pool_size=20,
        public_url="http://shop.test",
        catalog_grpc="catalog",
        payments_grpc="others",
        notifications_grpc="others",
        admin_grpc="others",
        accounts_grpc="accounts",
        cart_secret="a secret of thirty-two characters",
    )
    monkeypatch.setattr(runtime, "channel", lambda address: connect[address]("orders"))
    application = build(runtime)
    stub = orders_pb2_grpc.OrdersServiceStub((await serve_rpc(application))("payments-webhooks"))
    return Orders(runtime, application, shop, till, post, keys, client_for, stub)
