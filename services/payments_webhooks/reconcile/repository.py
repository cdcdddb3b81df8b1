"""Every statement on the reconciliation."""

from dataclasses import dataclass
from datetime import datetime

from reliability.postgres import Connection
from services.payments_webhooks.reconcile.domain import Difference

__all__ = ["DriftRow", "advance", "note", "page", "watermark"]


@dataclass(frozen=True, slots=True)
class DriftRow:
    """A difference that was found."""

    id: int
    kind: str
    subject: str
    ours: str
    stripes: str
    repaired: bool
    found_at: datetime


async def watermark(connection: Connection) -> datetime | None:
    """Up to when Stripe's events are known to have been taken in; None before the first run."""
    instant: datetime | None = await connection.fetchval("SELECT watermark FROM reconciliation")
    return instant


async def advance(connection: Connection, instant: datetime) -> None:
    """Moves the watermark on, never back: of two reconcilers the later one may have started first."""
    await connection.execute(
        """
        INSERT INTO reconciliation AS r (watermark) VALUES ($1)
            ON CONFLICT (id) DO UPDATE SET watermark = greatest(r.watermark, excluded.watermark)
        """,
        instant,
    )


async def note(connection: Connection, difference: Difference) -> bool:
    """Writes a difference down; False when it was known."""
    inserted = await connection.execute(
        """
        INSERT INTO drift (kind, subject, ours, stripes, repaired) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
        """,
        difference.kind,
        difference.subject,
        difference.ours,
        difference.stripes,
        difference.repaired,
    )
    return inserted == "INSERT 0 1"


async def page(connection: Connection, limit: int, before: int | None) -> list[DriftRow]:
    """Differences, newest first, from before the one named."""
    rows = await connection.fetch(
        """
        SELECT id, kind, subject, ours, stripes, repaired, found_at FROM drift
         WHERE $2::bigint IS NULL OR id < $2 ORDER BY id DESC LIMIT $1
        """,
        limit,
        before,
    )
    return [DriftRow(**row) for row in rows]
