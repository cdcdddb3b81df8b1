"""Nothing in admin's schema is there for nothing."""

from reliability import audit
from reliability.ids import new_id
from services.admin.incidents.domain import NewIncident
from services.admin.incidents.service import IncidentService
from tests.integration.admin.support import CAMPAIGNS, DRAFT, Admin, span

# Of the library's parts, which come whole: admin receives no webhooks.
UNUSED = {"inbox", "machine_tokens"}


async def test_every_table_is_reached(admin: Admin) -> None:
    """A request with a key, an export, an incident and a run of the worker leave a row in each table in use."""
    found = await admin.rows(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '%migrations'"
    )
    tables = {row["tablename"] for row in found}

    async def filled() -> set[str]:
        return {name for name in tables if await admin.value(f"SELECT EXISTS (SELECT FROM {name})")}

    assert await filled() == {"audit_head"}  # a chain has an end before it has a link
    await admin.post(CAMPAIGNS, DRAFT, key=new_id())
    await admin.export(span("shop", "checkout"))
    await IncidentService(admin.runtime.database).raise_incident(
        NewIncident("notifications", "mail-1", "mail_failed", "a mail was lost", {}, new_id())
    )
    async with admin.runtime.database.transaction() as connection:
        await audit.record(connection, "staff-1", "incident.resolved", "incident-1")
    await admin.runtime.worker._plan()
    await admin.runtime.worker.run_until_idle()
    assert await filled() == tables - UNUSED
    assert await filled() >= {"span_batches"}
