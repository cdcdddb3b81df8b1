"""The audit log: what staff did in another service, in a chain that shows when somebody has changed it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc.aio
import pytest

from deploy.local.databases import database_url
from holdfast.admin.v1 import admin_pb2, admin_pb2_grpc
from reliability import audit, rpc
from reliability.audit import Entry
from reliability.context import Principal
from reliability.errors import RemoteProblem
from reliability.ids import new_id
from reliability.runtime import Application
from services.admin.audit.service import AuditService
from tests.integration.admin.support import Admin

LOG = "/api/admin/audit-log"
OWNER = Principal("owner-1", "staff", permissions=frozenset({"staff"}))
Append = Callable[[Entry], Awaitable[None]]
ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]


def entry(number: int = 0, **values: Any) -> Entry:
    given: dict[str, Any] = {
        "id": new_id(),
        "happened_at": datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC),
        "actor": "staff-1",
        "action": "order.refunded",
        "subject": f"order-{number}",
        "detail": {"amount": number, "reason": "späte Lieferung"},
        "correlation_id": "flow-1",
    }
    return Entry(**(given | values))


async def appender(admin: Admin, serve_rpc: ServeRpc, caller: str = "orders") -> Append:
    """What a service's composition root gives to `audit.deliver`."""
    connect = await serve_rpc(admin.application)
    stub = admin_pb2_grpc.AdminServiceStub(connect(caller))
    return rpc.audit_log(stub.AppendAudit, admin_pb2.AppendAuditRequest, step="admin.AppendAudit")


async def test_twenty_at_once_make_one_chain(admin: Admin, serve_rpc: ServeRpc) -> None:
    """Racing writers, each sending twice: twenty entries without a gap, each hanging on the one before it."""
    append = await appender(admin, serve_rpc)
    entries = [entry(number) for number in range(20)]
    await asyncio.gather(*(append(each) for each in entries * 2))
    assert await AuditService(admin.runtime.database, own_name="admin").verify() == 0
    answer = await admin.get(LOG, {"limit": 15}, who=OWNER)
    body = answer.json()
    assert answer.status_code == 200
    assert [item["sequence"] for item in body["items"]] == list(range(20, 5, -1))
    rest = (await admin.get(LOG, {"cursor": body["next_cursor"]}, who=OWNER)).json()
    assert [item["sequence"] for item in rest["items"]] == [5, 4, 3, 2, 1]
    assert (body["intact"], rest["intact"], rest["next_cursor"]) == (True, True, None)
    assert {item["id"] for item in body["items"] + rest["items"]} == {each.id for each in entries}


async def test_an_entry_says_who_what_and_which_service(admin: Admin, serve_rpc: ServeRpc) -> None:
    """The service is the one on the certificate; the rest comes back as it was sent, to the microsecond."""
    await (await appender(admin, serve_rpc, "payments-webhooks"))(sent := entry(7))
    await (await appender(admin, serve_rpc))(entry(8, actor="staff-2"))
    (item,) = (await admin.get(LOG, {"actor": "staff-1", "subject": "order-7"}, who=OWNER)).json()["items"]
    assert item["service"] == "payments-webhooks"
    assert item["happened_at"] == "2026-11-24T12:00:00.123456Z"
    assert {key: item[key] for key in ("id", "actor", "action", "detail", "correlation_id")} == {
        "id": sent.id,
        "actor": "staff-1",
        "action": "order.refunded",
        "detail": sent.detail,
        "correlation_id": "flow-1",
    }


@pytest.mark.parametrize(
    ("tampering", "at"),
    [
        ("UPDATE audit_log SET detail_json = '{\"amount\": 1}' WHERE sequence = 3", 3),
        ("UPDATE audit_log SET actor = 'somebody-else' WHERE sequence = 5", 5),
        ("DELETE FROM audit_log WHERE sequence = 2", 2),
        ("DELETE FROM audit_log WHERE sequence = 5", 5),
        ("UPDATE audit_log SET hash = decode(repeat('ab', 32), 'hex') WHERE sequence = 4", 4),
    ],
)
async def test_what_was_changed_is_seen(
    admin: Admin, serve_rpc: ServeRpc, servers: Any, tampering: str, at: int
) -> None:
    """The log refuses to be changed; of somebody who can do it all the same it shows where."""
    append = await appender(admin, serve_rpc)
    for number in range(5):
        await append(entry(number))
    log = AuditService(admin.runtime.database, own_name="admin")
    with pytest.raises(asyncpg.PostgresError):
        await admin.execute(tampering)
    assert await log.watch() == 0
    database = await admin.value("SELECT current_database()")
    superuser = await asyncpg.connect(database_url(servers.endpoints.postgres, database))
    await superuser.execute(f"SET session_replication_role = replica; {tampering}")
    await superuser.close()
    assert await log.verify() == at
    assert await log.watch() == 1
    assert not (await admin.get(LOG, who=OWNER)).json()["intact"]


async def test_nobody_reads_it_without_the_permission(admin: Admin) -> None:
    """Staff without `staff` are told so, and nobody else gets in."""
    assert (await admin.get(LOG, who=replace(OWNER, permissions=frozenset({"operations"})))).status_code == 403
    assert (await admin.http.get(LOG)).status_code == 401


@pytest.mark.parametrize("wrong", [{"id": "7"}, {"actor": ""}, {"action": ""}], ids=["no id", "nobody", "nothing"])
async def test_a_senseless_entry_is_refused(admin: Admin, serve_rpc: ServeRpc, wrong: dict[str, Any]) -> None:
    """It would be in the chain for ever."""
    with pytest.raises(RemoteProblem) as refused:
        await (await appender(admin, serve_rpc))(entry(**wrong))
    assert refused.value.code == "validation_failed"


async def test_what_admin_itself_records_is_in_the_log_too(admin: Admin) -> None:
    """By its own worker, without a call."""
    async with admin.runtime.database.transaction() as connection:
        await audit.record(connection, "staff-1", "incident.resolved", "incident-1", note="noted")
    await admin.runtime.worker.run_until_idle()
    (item,) = (await admin.get(LOG, who=OWNER)).json()["items"]
    assert (item["service"], item["action"], item["detail"]) == ("admin", "incident.resolved", {"note": "noted"})
