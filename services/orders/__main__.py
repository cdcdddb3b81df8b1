"""The orders service's command line: `python -m services.orders serve | worker | migrate`."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.orders.app import build
from services.orders.settings import OrdersSettings

if __name__ == "__main__":
    server.main(
        "orders",
        OrdersSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "idempotency", "audit", "machine_tokens"),
        access=access_pb2.access,
    )
