"""The desk's RPCs on coupons."""

from typing import Any, TypeAlias

import grpc.aio

from holdfast.orders.v1 import coupon_desk_pb2 as pb
from holdfast.orders.v1 import coupon_desk_pb2_grpc
from services.orders.coupon.desk import CouponChange, CouponDesk, CouponDraft
from services.orders.coupon.domain import Coupon
from services.orders.desk.messages import given, stamp
from services.orders.desk.schemas import Page, checked
from services.orders.pages import next_cursor

__all__ = ["CouponDeskServicer"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_TERMS = ("minimum", "starts_at", "ends_at", "total_limit", "per_customer_limit")


class CouponDeskServicer(coupon_desk_pb2_grpc.CouponDeskServiceServicer):
    """Translates."""

    def __init__(self, desk: CouponDesk) -> None:
        self._desk = desk

    async def ListCoupons(self, request: pb.ListCouponsRequest, context: Context) -> pb.ListCouponsResponse:
        """See the proto."""
        page = checked(Page, given(request, "limit", "cursor"))
        rows = await self._desk.coupons(page.after(), page.limit)
        return pb.ListCouponsResponse(
            items=[_coupon(row) for row in rows[: page.limit]], next_cursor=next_cursor(rows, page.limit)
        )

    async def CreateCoupon(self, request: pb.CreateCouponRequest, context: Context) -> pb.CreateCouponResponse:
        """See the proto."""
        plain = {name: getattr(request, name) for name in ("code", "kind", "value", "currency")}
        draft = checked(CouponDraft, plain | given(request, *_TERMS))
        return await self._desk.create(
            draft, request.staff_id, lambda coupon: pb.CreateCouponResponse(coupon=_coupon(coupon))
        )

    async def UpdateCoupon(self, request: pb.UpdateCouponRequest, context: Context) -> pb.UpdateCouponResponse:
        """See the proto."""
        change = checked(CouponChange, given(request, *_TERMS, "active"))
        return await self._desk.change(
            request.coupon_id,
            change,
            request.staff_id,
            lambda coupon: pb.UpdateCouponResponse(coupon=_coupon(coupon)),
        )

    async def DeleteCoupon(self, request: pb.DeleteCouponRequest, context: Context) -> pb.DeleteCouponResponse:
        """See the proto."""
        await self._desk.delete(request.coupon_id, request.staff_id)
        return pb.DeleteCouponResponse(coupon_id=request.coupon_id)


def _coupon(coupon: Coupon) -> pb.Coupon:
    return pb.Coupon(
        id=coupon.id,
        code=coupon.code,
        kind=coupon.kind,
        value=coupon.value,
        currency=coupon.currency,
        minimum=coupon.minimum,
        starts_at=stamp(coupon.starts_at),
        ends_at=stamp(coupon.ends_at),
        total_limit=coupon.total_limit,
        per_customer_limit=coupon.per_customer_limit,
        active=coupon.active,
        redeemed=coupon.redeemed,
    )
