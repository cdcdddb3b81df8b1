"""Fixtures of the catalog suite."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc.aio
import pytest_asyncio

from holdfast.catalog.v1 import catalog_pb2_grpc
from reliability.runtime import Application, Runtime
from services.catalog.app import build
from services.catalog.products.service import ProductService
from services.catalog.settings import CatalogSettings
from services.catalog.stock.service import StockService
from tests.integration.catalog.support import Shop

Stub: TypeAlias = "catalog_pb2_grpc.CatalogServiceAsyncStub"  # exists for the type checker only


@pytest_asyncio.fixture(loop_scope="session")
async def shop(runtime_for: Callable[..., Awaitable[Runtime[CatalogSettings]]]) -> Shop:
    """A shop with empty shelves."""
    runtime = await runtime_for("catalog", CatalogSettings, database_pool_size=20)
    application = build(runtime)
    return Shop(runtime, application, ProductService(runtime.database), StockService(runtime.database))


@pytest_asyncio.fixture(loop_scope="session")
async def stub_as(
    shop: Shop, serve_rpc: Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]
) -> Callable[[str], Stub]:
    """Stubs that carry a caller's certificate, as in `stub_as("orders")`."""
    connect = await serve_rpc(shop.application)

    def give(caller: str) -> Stub:
        return catalog_pb2_grpc.CatalogServiceStub(connect(caller))

    return give
