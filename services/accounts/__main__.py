"""python -m services.accounts serve | worker | migrate."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.accounts.app import build
from services.accounts.settings import AccountsSettings

if __name__ == "__main__":
    server.main(
        "accounts",
        AccountsSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "idempotency", "audit"),
        access=access_pb2.access,
    )
