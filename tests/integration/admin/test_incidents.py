"""What failed for good is one incident, and staff say when somebody looks after it and when it is over."""

import asyncio
from typing import Any

import httpx
import pytest

from holdfast.admin.v1 import admin_pb2 as pb
from holdfast.admin.v1 import admin_pb2_grpc
from reliability import rpc
from reliability.errors import Problem
from tests.integration.admin.support import DASHBOARD, Admin

INCIDENTS = "/api/admin/incidents"


def raised(key: str = "mail:1", **fields: str) -> pb.RaiseIncidentRequest:
    values = {"kind": "critical_mail_failed", "summary": "A mail failed", "detail_json": '{"to":"ada@example.com"}'}
    return pb.RaiseIncidentRequest(key=key, correlation_id="flow-1", **(values | fields))


async def act(admin: Admin, path: str) -> httpx.Response:
    """What staff do with a button: a POST without a body."""
    return await admin.http.post(path, headers=admin.bearer())


async def stub(admin: Admin, serve_rpc: Any, caller: str = "notifications") -> Any:
    """Admin as a service with that certificate sees it; failures are problems."""
    found = admin_pb2_grpc.AdminServiceStub((await serve_rpc(admin.application))(caller))

    async def call(request: pb.RaiseIncidentRequest) -> pb.RaiseIncidentResponse:
        answer: pb.RaiseIncidentResponse = await rpc.invoke(found.RaiseIncident, request, step="raise", attempts=1)
        return answer

    return call


async def test_raised_often_it_is_one_incident(admin: Admin, serve_rpc: Any) -> None:
    """Ten at once and one more after it was resolved: one row; another service's key of the same name is its own."""
    mails, orders = await stub(admin, serve_rpc), await stub(admin, serve_rpc, "orders")
    answers = await asyncio.gather(*(mails(raised()) for _ in range(10)))
    (incident_id,) = {answer.incident_id for answer in answers}
    assert (await act(admin, f"{INCIDENTS}/{incident_id}/resolve")).status_code == 200
    assert (await mails(raised())).incident_id == incident_id
    assert (await orders(raised())).incident_id != incident_id
    (open_one,) = (await admin.get(INCIDENTS, {"state": "open"})).json()["items"]
    assert (open_one["service"], open_one["detail"]) == ("orders", {"to": "ada@example.com"})
    assert len((await admin.get(INCIDENTS)).json()["items"]) == 2


async def test_the_way_of_an_incident(admin: Admin, serve_rpc: Any) -> None:
    """Counted until it is resolved; who acknowledged it first stays it; both are in the audit log, once."""
    before = (await admin.get(DASHBOARD)).json()["open_incidents"]
    incident_id = (await (await stub(admin, serve_rpc))(raised())).incident_id
    path = f"{INCIDENTS}/{incident_id}"
    assert (await admin.get(DASHBOARD)).json()["open_incidents"] == before + 1
    for _ in range(2):
        answer = await act(admin, f"{path}/acknowledge")
        assert (answer.status_code, answer.json()["state"]) == (200, "acknowledged")
        assert answer.json()["acknowledged_by"] == "staff-1"
    assert (await admin.get(DASHBOARD)).json()["open_incidents"] == before + 1
    for _ in range(2):
        answer = await act(admin, f"{path}/resolve")
        assert (answer.status_code, answer.json()["state"]) == (200, "resolved")
    assert (await admin.get(DASHBOARD)).json()["open_incidents"] == before
    late = await act(admin, f"{path}/acknowledge")
    assert (late.status_code, late.json()["code"]) == (409, "incident_resolved")
    done = await admin.rows("SELECT action FROM audit_entries WHERE subject = $1 ORDER BY id", incident_id)
    assert [row["action"] for row in done] == ["incident.acknowledged", "incident.resolved"]


@pytest.mark.parametrize("fields", [{"kind": ""}, {"summary": ""}, {"detail_json": "{"}, {"detail_json": "[]"}])
async def test_what_is_no_incident_is_refused(admin: Admin, serve_rpc: Any, fields: dict[str, str]) -> None:
    """Nothing is kept of it."""
    with pytest.raises(Problem) as refused:
        await (await stub(admin, serve_rpc))(raised(**fields))
    assert refused.value.code == "validation_failed"
    assert (await admin.get(INCIDENTS)).json()["items"] == []


async def test_pages_and_strangers(admin: Admin, serve_rpc: Any) -> None:
    """Newest first, each once; an id that is none is 404."""
    call = await stub(admin, serve_rpc)
    made = [(await call(raised(f"mail:{n}"))).incident_id for n in range(5)]
    first = (await admin.get(INCIDENTS, {"limit": 3})).json()
    rest = (await admin.get(INCIDENTS, {"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in [*first["items"], *rest["items"]]] == made[::-1]
    assert rest["next_cursor"] is None
    for name in ("nonsense", "0192aaaa-0000-7000-8000-000000000000"):
        assert (await act(admin, f"{INCIDENTS}/{name}/resolve")).status_code == 404
