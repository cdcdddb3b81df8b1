"""python -m services.notifications serve | worker | migrate."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.notifications.app import build
from services.notifications.settings import NotificationsSettings

if __name__ == "__main__":
    server.main(
        "notifications",
        NotificationsSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "inbox", "idempotency", "audit", "machine_tokens"),
        access=access_pb2.access,
    )
