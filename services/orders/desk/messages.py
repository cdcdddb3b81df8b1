"""What the desk is shown, as messages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1.money_pb2 import Money
from holdfast.orders.v1 import order_desk_pb2 as pb
from services.orders.desk.repository import OrderRow
from services.orders.desk.service import OrderFile
from services.orders.order.domain import OrderLine

__all__ = ["given", "instant", "order", "stamp", "summary"]


def given(request: Any, *names: str) -> dict[str, Any]:
    """The optional fields that were given; a time as one, or as nothing that passes for one."""
    return {name: _plain(request, name) for name in names if request.HasField(name)}


def instant(request: Any, name: str) -> datetime | None:
    """A time in a request; None, which no schema takes, when it is no time at all."""
    try:
        at: datetime = getattr(request, name).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return at


def stamp(at: datetime | None) -> Timestamp | None:
    """A time as a message; none of none."""
    if at is None:
        return None
    result = Timestamp()
    result.FromDatetime(at)
    return result


def _plain(request: Any, name: str) -> Any:
    value = getattr(request, name)
    if isinstance(value, Money):
        return {"amount": value.amount, "currency": value.currency}
    return instant(request, name) if hasattr(value, "ToDatetime") else value


def summary(row: OrderRow) -> pb.OrderSummary:
    """An order in a list."""
    return pb.OrderSummary(
        id=row.id,
        order_number=row.number,
        status=row.status,
        stock=row.stock,
        email=row.email,
        customer_id=row.customer_id,
        total=Money(amount=row.total, currency=row.currency),
        refunded=Money(amount=row.refunded, currency=row.currency),
        created_at=stamp(row.created_at),
        paid_at=stamp(row.paid_at),
        fulfilled_at=stamp(row.fulfilled_at),
        correlation_id=row.correlation_id,
    )


def order(file: OrderFile) -> pb.GetOrderResponse:
    """An order, whole."""
    found, facts = file.order, file.facts

    def money(amount: int) -> Money:
        return Money(amount=amount, currency=found.currency)

    names = ("subtotal", "discount", "shipping", "tax", "total")
    return pb.GetOrderResponse(
        order_id=found.id,
        order_number=found.number,
        status=found.status,
        stock=found.stock,
        email=found.email,
        customer_id=found.customer_id,
        shipping_address=_address(found.shipping_address),
        shipping_method=found.shipping_method,
        note=found.note,
        items=[_line(line, found.currency) for line in found.lines],
        **{name: money(getattr(found, name)) for name in names},
        refunded=money(facts["refunded"]),
        refundable=money(file.refundable),
        coupon=found.coupon_code,
        hold_expires_at=stamp(found.hold_expires_at),
        created_at=stamp(found.created_at),
        paid_at=stamp(facts["paid_at"]),
        fulfilled_at=stamp(facts["fulfilled_at"]),
        carrier=facts["carrier"],
        tracking_number=facts["tracking_number"],
        tracking_url=facts["tracking_url"],
        payments=[_payment(row) for row in facts["payments"]],
        refunds=[_refund(row) for row in facts["refunds"]],
        timeline=[
            pb.DeskEvent(
                status=each.status,
                reason=each.reason,
                actor=each.actor,
                correlation_id=each.correlation_id,
                at=stamp(each.at),
            )
            for each in file.timeline
        ],
        correlation_id=found.correlation_id,
    )


def _address(address: Mapping[str, Any]) -> pb.PostalAddress:
    fields: Any = {name: address.get(name) for name in pb.PostalAddress.DESCRIPTOR.fields_by_name}
    return pb.PostalAddress(**fields)


def _line(line: OrderLine, currency: str) -> pb.DeskLine:
    names = ("unit_price", "line_total", "discount", "tax")
    return pb.DeskLine(
        variant_id=line.variant_id,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        **{name: Money(amount=getattr(line, name), currency=currency) for name in names},
    )


def _payment(row: Mapping[str, Any]) -> pb.DeskPayment:
    return pb.DeskPayment(
        payment_intent_id=row["payment_intent_id"],
        amount=Money(amount=row["amount"], currency=row["currency"]),
        outcome=row["outcome"],
        recorded_at=stamp(datetime.fromisoformat(row["recorded_at"])),
    )


def _refund(row: Mapping[str, Any]) -> pb.DeskRefund:
    return pb.DeskRefund(
        id=row["id"],
        amount=Money(amount=row["amount"], currency=row["currency"]),
        state=row["state"],
        reason=row["reason"],
        actor=row["actor"],
        failure=row["failure"],
        at=stamp(datetime.fromisoformat(row["at"])),
    )
