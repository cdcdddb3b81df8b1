"""Reads orders page by page and writes them as CSV (RFC 4180)."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.orders.v1 import order_desk_pb2 as pb
from holdfast.orders.v1 import order_desk_pb2_grpc
from reliability import rpc
from services.admin.relay.messages import to_json, to_message

__all__ = ["COLUMNS", "ExportService"]

_PAGE: Final = 100
_MONEY: Final = ("total", "refunded")
COLUMNS: Final = (
    "id",
    "order_number",
    "status",
    "stock",
    "email",
    "customer_id",
    "currency",
    *_MONEY,
    "created_at",
    "paid_at",
    "fulfilled_at",
)
# A spreadsheet takes what begins so for a formula, and an address may begin so.
# Source: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class ExportService:
    """Asks orders, in pages."""

    def __init__(self, orders: "order_desk_pb2_grpc.OrderDeskServiceAsyncStub", rows: int) -> None:
        self._orders = orders
        self._rows = rows

    async def orders(self, which: Mapping[str, Any]) -> tuple[str, str | None]:
        """The table, newest first, and the cursor of its next part when there is more; amounts in minor units."""
        items: list[pb.OrderSummary] = []
        values = dict(which)
        while True:
            request: Any = to_message(
                pb.ListOrdersRequest.DESCRIPTOR, values | {"limit": min(_PAGE, self._rows - len(items))}
            )
            page = await rpc.invoke(self._orders.ListOrders, request, step="orders.ListOrders")
            items.extend(page.items)
            following = page.next_cursor if page.HasField("next_cursor") else None
            if following is None or len(items) >= self._rows:
                return _table(items), following
            values["cursor"] = following


def _table(items: Sequence[pb.OrderSummary]) -> str:
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for item in items:
        row = to_json(item)
        amounts = {name: row[name]["amount"] for name in _MONEY}
        writer.writerow({name: _cell(value) for name, value in row.items()} | amounts | {"currency": _currency(row)})
    return written.getvalue()


def _currency(row: Mapping[str, Any]) -> str:
    return str(row["total"]["currency"])


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
