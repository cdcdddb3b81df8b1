"""What really happened, read where it is kept: each service's database, the sandboxes' ledgers, the log files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from deploy.local.databases import database_of, database_url
from deploy.local.endpoints import Endpoints

__all__ = ["Observer"]

Json = dict[str, Any]


class Observer:
    """Looks, and changes nothing."""

    def __init__(self, endpoints: Endpoints, logs: Path) -> None:
        self._endpoints = endpoints
        self._logs = logs

    @asynccontextmanager
    async def _connect(self, service: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        connection = await asyncpg.connect(database_url(self._endpoints.postgres, database_of(service)))
        try:
            yield connection
        finally:
            await connection.close()

    async def value(self, service: str, query: str, *values: object) -> Any:
        """One value from a service's database."""
        async with self._connect(service) as connection:
            return await connection.fetchval(query, *values)

    async def rows(self, service: str, query: str, *values: object) -> list[Json]:
        """Rows from a service's database."""
        async with self._connect(service) as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]

    async def on_hand(self, variant_id: str) -> tuple[int, int]:
        """Pieces in the warehouse, and how many of them are promised."""
        (row,) = await self.rows("catalog", "SELECT on_hand, held FROM variants WHERE id = $1", variant_id)
        return row["on_hand"], row["held"]

    async def ledger(self) -> Json:
        """What Stripe charged and gave back."""
        async with httpx.AsyncClient(base_url=self._endpoints.stripe_sandbox or "") as http:
            answer: Json = (await http.get("/_sandbox/ledger")).json()
            return answer

    async def messages(self, **filters: str) -> list[Json]:
        """Mail that arrived."""
        async with httpx.AsyncClient(base_url=self._endpoints.mailbox or "") as http:
            answer: list[Json] = (await http.get("/messages", params={**filters, "limit": "1000"})).json()
            return answer

    def log_lines(self, correlation_id: str) -> dict[str, int]:
        """Log lines that carry a correlation id, by process."""
        counts = {
            path.stem: sum(correlation_id in line for line in path.read_text(errors="replace").splitlines())
            for path in sorted(self._logs.glob("*.log"))
        }
        return {name: count for name, count in counts.items() if count}
