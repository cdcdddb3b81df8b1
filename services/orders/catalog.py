"""What orders asks the catalog."""

from collections.abc import Iterable
from datetime import UTC, datetime

from holdfast.catalog.v1 import catalog_pb2 as pb
from holdfast.catalog.v1 import catalog_pb2_grpc
from holdfast.common.v1 import money_pb2
from reliability import rpc
from reliability.errors import Problem
from services.orders.cart.domain import CatalogEntry
from services.orders.lookups import Lookups
from services.orders.order.domain import Order
from services.orders.recent import Recent

__all__ = ["Catalog"]

ATTEMPT = 1
# What catalog looks up at once.
_MOST = 100


class Catalog:
    """The catalog's RPCs in the words of this service. Holds are named by the order, so each call may be repeated."""

    def __init__(self, stub: "catalog_pb2_grpc.CatalogServiceAsyncStub") -> None:
        self._stub = stub
        self._lookups = Lookups(self._entries, most=_MOST)
        self._recent = Recent[CatalogEntry]()

    def lately(self, variant_ids: Iterable[str]) -> dict[str, CatalogEntry]:
        """Those of the variants that catalog told of a moment ago, as they were then; `hold` finds out what changed."""
        return self._recent(variant_ids)

    async def entries(self, variant_ids: Iterable[str]) -> dict[str, CatalogEntry]:
        """Variants that exist, by id, as they are now."""
        return await self._lookups(variant_ids)

    async def _entries(self, variant_ids: Iterable[str]) -> dict[str, CatalogEntry]:
        request = pb.GetVariantsRequest(variant_ids=list(variant_ids))
        answer = await rpc.invoke(self._stub.GetVariants, request, step="catalog.GetVariants")
        entries = {
            variant.id: CatalogEntry(
                variant.id,
                variant.sku,
                variant.title,
                variant.price.amount,
                variant.price.currency,
                variant.available,
                variant.category,
                variant.product_id,
            )
            for variant in answer.variants
        }
        self._recent.remember(entries)
        return entries

    async def hold(self, order: Order, ttl_seconds: int) -> datetime:
        """Promises stock to an order, at the prices it has; when the promise ends.

        Raises the catalog's `out_of_stock` and `price_changed`.
        """
        lines = [
            pb.StockLine(
                variant_id=line.variant_id,
                quantity=line.quantity,
                price=money_pb2.Money(amount=line.unit_price, currency=order.currency),
            )
            for line in order.lines
        ]
        request = pb.HoldStockRequest(order_id=order.id, attempt=ATTEMPT, lines=lines, ttl_seconds=ttl_seconds)
        try:
            answer = await rpc.invoke(self._stub.HoldStock, request, step="catalog.HoldStock")
        except Problem:
            self._recent.forget(order.quantities())
            raise
        return answer.expires_at.ToDatetime(UTC)

    async def extend(self, order_id: str, ttl_seconds: int) -> datetime:
        """Lets a hold last `ttl_seconds` from now; when it ends."""
        request = pb.ExtendHoldRequest(order_id=order_id, attempt=ATTEMPT, ttl_seconds=ttl_seconds)
        answer = await rpc.invoke(self._stub.ExtendHold, request, step="catalog.ExtendHold")
        return answer.expires_at.ToDatetime(UTC)

    async def release(self, order_id: str) -> None:
        """Gives the stock back."""
        request = pb.ReleaseStockRequest(order_id=order_id, attempt=ATTEMPT)
        await rpc.invoke(self._stub.ReleaseStock, request, step="catalog.ReleaseStock")

    async def commit(self, order_id: str, customer_id: str | None) -> None:
        """Takes the stock out of the warehouse. Raises the catalog's `hold_lost`."""
        request = pb.CommitStockRequest(order_id=order_id, attempt=ATTEMPT, customer_id=customer_id or "")
        await rpc.invoke(self._stub.CommitStock, request, step="catalog.CommitStock")
