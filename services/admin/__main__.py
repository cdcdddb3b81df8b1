"""python -m services.admin serve | worker | migrate."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.admin.app import build
from services.admin.settings import AdminSettings

if __name__ == "__main__":
    server.main(
        "admin",
        AdminSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "idempotency", "audit", "machine_tokens"),
        access=access_pb2.access,
    )
