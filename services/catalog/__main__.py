"""python -m services.catalog serve | worker | migrate."""

from pathlib import Path

from holdfast.common.v1 import access_pb2
from reliability import server
from services.catalog.app import build
from services.catalog.settings import CatalogSettings

if __name__ == "__main__":
    server.main(
        "catalog",
        CatalogSettings,
        build,
        migrations=Path(__file__).parent / "migrations",
        parts=("jobs", "machine_tokens"),
        access=access_pb2.access,
    )
