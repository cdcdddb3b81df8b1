"""The payments service's command line: `python -m services.payments_webhooks serve | worker | migrate`."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.payments_webhooks.app import build
from services.payments_webhooks.settings import PaymentsSettings

if __name__ == "__main__":
    server.main(
        "payments-webhooks",
        PaymentsSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "idempotency", "inbox", "audit", "machine_tokens"),
        access=access_pb2.access,
    )
