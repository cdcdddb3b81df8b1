"""The gRPC edge: decode, call, encode. Who may call is written in the proto."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from holdfast.common.v1 import money_pb2
from reliability.errors import FieldError, ValidationFailed
from reliability.ids import is_id
from services.catalog.products.domain import VariantOffer
from services.catalog.products.service import ProductService
from services.catalog.stock.schemas import CommitInput, ExtendInput, HoldInput, HoldName, parse
from services.catalog.stock.service import StockService

__all__ = ["CatalogServicer"]

_MAX_IDS: Final = 100


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """CatalogService of the proto."""

    def __init__(self, products: ProductService, stock: StockService) -> None:
        self._products = products
        self._stock = stock

    async def GetVariants(
        self, request: catalog_pb2.GetVariantsRequest, _context: Any
    ) -> catalog_pb2.GetVariantsResponse:
        if len(request.variant_ids) > _MAX_IDS:
            raise ValidationFailed([FieldError("/variant_ids", f"must have {_MAX_IDS} items at most")])
        # Ids are opaque to clients: one that is no UUID is as unknown as any other.
        ids = [UUID(identifier) for identifier in request.variant_ids if is_id(identifier)]
        offers = await self._products.variant_offers(ids)
        return catalog_pb2.GetVariantsResponse(variants=[_variant(offer) for offer in offers])

    async def HoldStock(self, request: catalog_pb2.HoldStockRequest, _context: Any) -> catalog_pb2.HoldStockResponse:
        wanted = parse(HoldInput, request)
        expires_at = await self._stock.hold(wanted.key, wanted.wanted(), wanted.ttl, wanted.prices())
        return catalog_pb2.HoldStockResponse(expires_at=_timestamp(expires_at))

    async def ExtendHold(self, request: catalog_pb2.ExtendHoldRequest, _context: Any) -> catalog_pb2.ExtendHoldResponse:
        wanted = parse(ExtendInput, request)
        expires_at = await self._stock.extend(wanted.key, wanted.ttl)
        return catalog_pb2.ExtendHoldResponse(expires_at=_timestamp(expires_at))

    async def ReleaseStock(
        self, request: catalog_pb2.ReleaseStockRequest, _context: Any
    ) -> catalog_pb2.ReleaseStockResponse:
        await self._stock.release(parse(HoldName, request).key)
        return catalog_pb2.ReleaseStockResponse()

    async def CommitStock(
        self, request: catalog_pb2.CommitStockRequest, _context: Any
    ) -> catalog_pb2.CommitStockResponse:
        wanted = parse(CommitInput, request)
        await self._stock.commit(wanted.key, wanted.customer_id)
        return catalog_pb2.CommitStockResponse()


def _variant(offer: VariantOffer) -> catalog_pb2.Variant:
    return catalog_pb2.Variant(
        id=str(offer.id),
        sku=offer.sku,
        product_id=str(offer.product_id),
        title=offer.title,
        price=money_pb2.Money(amount=offer.price.amount, currency=offer.price.currency),
        available=offer.available,
        category=offer.category,
    )


def _timestamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
