"""The gRPC edge over mutual TLS: who may call, what is refused, and how errors arrive."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import pytest

from holdfast.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from holdfast.common.v1 import money_pb2
from reliability import rpc
from reliability.context import correlation_scope
from reliability.errors import Problem
from reliability.ids import new_id
from tests.integration.catalog.support import Shop

StubAs = Callable[[str], "catalog_pb2_grpc.CatalogServiceAsyncStub"]

RPCS: dict[str, Any] = {
    "GetVariants": catalog_pb2.GetVariantsRequest,
    "HoldStock": catalog_pb2.HoldStockRequest,
    "ExtendHold": catalog_pb2.ExtendHoldRequest,
    "ReleaseStock": catalog_pb2.ReleaseStockRequest,
    "CommitStock": catalog_pb2.CommitStockRequest,
}


def _hold(order_id: str, *lines: tuple[UUID | str, int], attempt: int = 1, ttl: int = 900) -> Any:
    return catalog_pb2.HoldStockRequest(
        order_id=order_id,
        attempt=attempt,
        lines=[catalog_pb2.StockLine(variant_id=str(variant), quantity=quantity) for variant, quantity in lines],
        ttl_seconds=ttl,
    )


def _priced(amount: int, currency: str, variant: object = "00000000-0000-0000-0000-000000000001") -> Any:
    """A hold of one piece, sold for so much."""
    price = money_pb2.Money(amount=amount, currency=currency)
    line = catalog_pb2.StockLine(variant_id=str(variant), quantity=1, price=price)
    return catalog_pb2.HoldStockRequest(order_id=new_id(), attempt=1, lines=[line], ttl_seconds=60)


async def test_one_order_through_every_rpc(shop: Shop, stub_as: StubAs) -> None:
    """Looked up, held, extended, committed; another one released."""
    stub = stub_as("orders")
    product = await shop.product("chew-rope", title="Chew Rope")
    variant = await shop.variant(10, price=1299, sku="ROPE", product=product)
    order, other = new_id(), new_id()
    found = await stub.GetVariants(catalog_pb2.GetVariantsRequest(variant_ids=[str(variant), new_id(), "nonsense"]))
    assert len(found.variants) == 1
    offer = found.variants[0]
    assert (offer.id, offer.sku, offer.product_id) == (str(variant), "ROPE", str(product))
    assert (offer.title, offer.price.amount, offer.price.currency) == ("Chew Rope, One size", 1299, "USD")
    assert offer.available == 10

    held = await stub.HoldStock(_hold(order, (variant, 3)))
    left = held.expires_at.ToSeconds() - time.time()
    assert 880 < left < 920
    extended = await stub.ExtendHold(catalog_pb2.ExtendHoldRequest(order_id=order, attempt=1, ttl_seconds=3600))
    assert 2690 < extended.expires_at.ToSeconds() - held.expires_at.ToSeconds() < 2710
    await stub.HoldStock(_hold(other, (variant, 5)))
    found = await stub.GetVariants(catalog_pb2.GetVariantsRequest(variant_ids=[str(variant)]))
    assert found.variants[0].available == 2
    await stub.ReleaseStock(catalog_pb2.ReleaseStockRequest(order_id=other, attempt=1))
    customer = new_id()
    await stub.CommitStock(catalog_pb2.CommitStockRequest(order_id=order, attempt=1, customer_id=customer))
    assert await shop.counts(variant) == (7, 0)
    assert [str(row["customer_id"]) for row in await shop.fetch("SELECT customer_id FROM sales")] == [customer]
    await shop.assert_books_balance()


@pytest.mark.parametrize("name", RPCS)
@pytest.mark.parametrize("caller", ["notifications", "payments-webhooks", "admin"])
async def test_only_orders_may_call(stub_as: StubAs, name: str, caller: str) -> None:
    """The certificate's name decides, before the request is looked at."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stub_as(caller), name)(RPCS[name]())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


_ORDER = new_id()
_VARIANT = new_id()


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        (_hold("nonsense", (_VARIANT, 1)), "/order_id"),
        (_hold("", (_VARIANT, 1)), "/order_id"),
        (_hold(_ORDER, (_VARIANT, 1), attempt=0), "/attempt"),
        (_hold(_ORDER, (_VARIANT, 1), attempt=-1), "/attempt"),
        (_hold(_ORDER, (_VARIANT, 1), ttl=0), "/ttl_seconds"),
        (_hold(_ORDER, (_VARIANT, 1), ttl=2**31 - 1), "/ttl_seconds"),
        (_hold(_ORDER), "/lines"),
        (_hold(_ORDER, *((new_id(), 1) for _ in range(101))), "/lines"),
        (_hold(_ORDER, (_VARIANT, 1), (_VARIANT, 2)), "/lines"),
        (_hold(_ORDER, (_VARIANT, 1), (new_id(), 0)), "/lines/1/quantity"),
        (_hold(_ORDER, (_VARIANT, -1)), "/lines/0/quantity"),
        (_hold(_ORDER, (_VARIANT, 1001)), "/lines/0/quantity"),
        (_hold(_ORDER, (_VARIANT, 10**9)), "/lines/0/quantity"),
        (_hold(_ORDER, ("nonsense", 1)), "/lines/0/variant_id"),
        (_priced(-1, "USD"), "/lines/0/price/amount"),
        (_priced(1, "usd"), "/lines/0/price/currency"),
        (catalog_pb2.ExtendHoldRequest(order_id=_ORDER, attempt=1), "/ttl_seconds"),
        (catalog_pb2.ReleaseStockRequest(order_id=_ORDER), "/attempt"),
        (catalog_pb2.ReleaseStockRequest(attempt=1), "/order_id"),
        (catalog_pb2.CommitStockRequest(order_id=_ORDER, attempt=1, customer_id="me"), "/customer_id"),
        (catalog_pb2.GetVariantsRequest(variant_ids=[_VARIANT] * 101), "/variant_ids"),
    ],
)
async def test_bad_requests_are_refused_whole(shop: Shop, stub_as: StubAs, request_: Any, pointer: str) -> None:
    """422 with a pointer to the field, and nothing written."""
    name = type(request_).__name__.removesuffix("Request")
    with pytest.raises(Problem) as caught:
        await rpc.invoke(getattr(stub_as("orders"), name), request_, step="test")
    assert (caught.value.status, caught.value.code, caught.value.grpc) == (422, "validation_failed", "INVALID_ARGUMENT")
    assert [error["pointer"] for error in caught.value.extensions["errors"]] == [pointer]
    assert await shop.fetch("SELECT FROM holds") == []


async def test_a_changed_price_crosses_with_its_changes(shop: Shop, stub_as: StubAs) -> None:
    """What it was, what it is; at today's price it is held."""
    variant = await shop.variant(5, sku="DEARER", price=1100)
    with pytest.raises(Problem) as caught:
        await rpc.invoke(stub_as("orders").HoldStock, _priced(1000, "USD", variant), step="catalog.HoldStock")
    assert (caught.value.status, caught.value.code) == (409, "price_changed")
    assert caught.value.extensions["changes"][0]["now"] == {"amount": 1100, "currency": "USD"}
    await rpc.invoke(stub_as("orders").HoldStock, _priced(1100, "USD", variant), step="catalog.HoldStock")
    assert await shop.counts(variant) == (5, 1)


async def test_out_of_stock_crosses_with_its_changes(shop: Shop, stub_as: StubAs) -> None:
    """The caller gets the problem as it was raised: code, status and what is missing."""
    variant = await shop.variant(1, sku="LAST")
    with pytest.raises(Problem) as caught:
        await rpc.invoke(stub_as("orders").HoldStock, _hold(new_id(), (variant, 2)), step="catalog.HoldStock")
    assert (caught.value.status, caught.value.code) == (409, "out_of_stock")
    assert caught.value.extensions["changes"] == [
        {"variant_id": str(variant), "sku": "LAST", "requested": 2, "available": 1}
    ]


async def test_the_flow_is_noted_with_the_hold(shop: Shop, stub_as: StubAs) -> None:
    """The caller's correlation id is in the row, for whoever asks months later."""
    variant = await shop.variant()
    with correlation_scope("purchase-7"):
        await rpc.invoke(stub_as("orders").HoldStock, _hold(new_id(), (variant, 1)), step="catalog.HoldStock")
    assert [row["correlation_id"] for row in await shop.fetch("SELECT correlation_id FROM holds")] == ["purchase-7"]


async def test_a_caller_out_of_time_leaves_nothing(shop: Shop, stub_as: StubAs) -> None:
    """The deadline crosses the call and reaches the wait for the row; afterwards the same hold can be made."""
    variant = await shop.variant()
    stub = stub_as("orders")
    request = _hold(new_id(), (variant, 1))
    await stub.GetVariants(catalog_pb2.GetVariantsRequest())  # connected
    async with shop.database.transaction("blocker") as connection:
        await connection.execute("SELECT FROM variants WHERE id = $1 FOR UPDATE", variant)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.HoldStock(request, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            while await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ):
                await asyncio.sleep(0.01)
    assert await shop.fetch("SELECT FROM holds") == []
    await stub.HoldStock(request)
    assert await shop.counts(variant) == (10, 1)
