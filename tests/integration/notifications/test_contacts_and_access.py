"""The copy of customers, and who may call what."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.errors import Problem
from reliability.runtime import Application
from tests.integration.notifications.support import Office, confirmation, customer, later


async def test_an_older_change_changes_nothing(office: Office) -> None:
    """Events may overtake one another: what was true later wins, whatever arrives last."""
    await office.stub.RecordCustomerChanged(customer(name="New", consent=False, changed_at=later(60)))
    await office.stub.RecordCustomerChanged(customer(name="Old", email="old@example.com", changed_at=later(0)))
    (row,) = await office.rows("SELECT name, email, marketing_consent FROM contacts")
    assert row == {"name": "New", "email": "customer1@example.com", "marketing_consent": False}

    await office.stub.RecordCustomerChanged(customer(name="Newest", changed_at=later(60.000001)))
    (row,) = await office.rows("SELECT name, marketing_consent FROM contacts")
    assert row == {"name": "Newest", "marketing_consent": True}


async def test_changes_at_once_leave_the_newest(office: Office) -> None:
    """Twenty changes of one customer race in any order: the newest is what is known."""
    changes = [customer(name=f"v{n}", changed_at=later(n)) for n in range(20)]
    await asyncio.gather(*(office.stub.RecordCustomerChanged(change) for change in changes[::2] + changes[1::2]))
    (row,) = await office.rows("SELECT name FROM contacts")
    assert row["name"] == "v19"


async def test_a_change_does_not_lift_a_suppression(office: Office) -> None:
    """Who was suppressed stays so, whatever accounts says."""
    await office.customers(1)
    await office.execute("UPDATE contacts SET suppressed = true")
    await office.stub.RecordCustomerChanged(customer(changed_at=later(1)))
    (row,) = await office.rows("SELECT suppressed FROM contacts")
    assert row["suppressed"] is True


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (pb.RecordCustomerChangedRequest(customer_id=str(uuid.uuid4()), email="a@example.com"), "/changed_at"),
        (customer(email="nobody"), "/email"),
        (customer(name="Ada\r\nBcc: eve@example.com"), "/name"),
    ],
)
async def test_a_bad_change_is_refused(office: Office, change: Any, pointer: str) -> None:
    """A missing time, a bad address or a name that is no line is a 422, and nothing is stored."""
    with pytest.raises(Problem) as caught:
        await office.stub.RecordCustomerChanged(change)
    assert pointer in {error["pointer"] for error in caught.value.extensions["errors"]}
    assert (await office.counts())["contacts"] == 0


async def test_a_bad_customer_id_is_refused(office: Office) -> None:
    """Only a UUID names a customer."""
    change = customer()
    change.customer_id = "ada"
    with pytest.raises(Problem) as caught:
        await office.stub.RecordCustomerChanged(change)
    assert caught.value.status == 422


async def test_a_time_out_of_range_is_refused(office: Office) -> None:
    """A timestamp that is no date of this era is a 422, not an accident."""
    change = customer()
    change.changed_at.CopyFrom(Timestamp(seconds=10**14))
    with pytest.raises(Problem) as caught:
        await office.stub.RecordCustomerChanged(change)
    assert caught.value.status == 422


_CALLS: dict[str, tuple[object, set[str]]] = {
    "SendEmail": (confirmation(), {"admin", "accounts", "orders"}),
    "RecordCustomerChanged": (customer(changed_at=datetime(2026, 1, 1, tzinfo=UTC)), {"accounts"}),
    "CreateCampaign": (
        pb.CreateCampaignRequest(name="n", subject="s", html="h", audience=pb.Audience(all=True), staff_id="1"),
        {"admin"},
    ),
    "SendCampaign": (pb.SendCampaignRequest(campaign_id=str(uuid.UUID(int=0)), staff_id="1"), {"admin"}),
    "GetCampaignStats": (pb.GetCampaignStatsRequest(campaign_id=str(uuid.UUID(int=0))), {"admin"}),
    "GetSummary": (pb.GetSummaryRequest(), {"admin"}),
}


@pytest.mark.parametrize("name", _CALLS)
async def test_each_rpc_is_for_its_callers(anyone: dict[str, Any], name: str) -> None:
    """The caller is the name on its certificate: who is not named in the proto gets 403."""
    request, allowed = _CALLS[name]
    refused = set()
    for caller, stub in anyone.items():
        try:
            await getattr(stub, name)(request)
        except Problem as problem:
            refused |= {caller} if problem.code == "permission_denied" else set()
    assert set(anyone) - refused == allowed


async def test_the_dashboard_sees_what_failed(office: Office) -> None:
    """Failed mails and dead letters are counted."""
    await office.stub.SendEmail(confirmation())
    await office.execute("UPDATE emails SET state = 'failed'")
    await office.execute("UPDATE jobs SET state = 'parked', finished_at = now()")
    summary = await office.stub.GetSummary(pb.GetSummaryRequest())
    assert (summary.failed_emails, summary.dead_letters) == (1, 1)


async def test_the_probes_answer(office: Office, client_for: Callable[[Application], httpx.AsyncClient]) -> None:
    """Liveness, readiness and metrics."""
    client = client_for(office.application)
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await client.get(path)).status_code == 200


async def test_mail_on_its_way_is_forgotten_when_it_has_arrived(office: Office) -> None:
    """Erased while a mail waits and another is out: both are settled, and then nothing is left of the address."""
    await office.customers(1)
    campaign = await office.draft()
    await office.send(campaign)
    await office.execute("UPDATE campaign_recipients SET state = 'sending', attempts = 1")
    await office.stub.SendEmail(confirmation(to="customer1@example.com"))
    erasure = pb.RecordCustomerErasedRequest(customer_id=str(uuid.UUID(int=1)), email="customer1@example.com")
    for _ in range(2):
        await office.stub.RecordCustomerErased(erasure)
    await office.work()
    assert len(office.mailbox.messages("customer1@example.com")) == 1
    await office.stub.SendEmail(confirmation("somebody-new", to="customer1@example.com"))
    await office.work_later()
    assert await office.rows("SELECT email FROM campaign_recipients WHERE email LIKE 'customer1@%'") == []
    rows = await office.rows("SELECT \"to\", html <> '' AS words, state FROM emails ORDER BY id")
    assert rows == [
        {"to": "erased", "words": False, "state": "sent"},
        {"to": "customer1@example.com", "words": True, "state": "sent"},
    ]
    left = await office.rows("SELECT state FROM jobs WHERE kind = 'forget_customer'")
    assert {row["state"] for row in left} == {"done"}
