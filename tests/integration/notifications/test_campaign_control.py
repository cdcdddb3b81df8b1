"""What staff can do with a campaign besides starting it, and who is in its audience."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.common.v1.money_pb2 import Money
from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.errors import Problem
from sandbox.mailbox.faults import Fault
from services.notifications.campaigns import repository
from services.notifications.campaigns.service import CampaignService
from tests.integration.notifications.support import Office, customer, later

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
MOVES = {
    "pause": ("PauseCampaign", pb.PauseCampaignRequest),
    "resume": ("ResumeCampaign", pb.ResumeCampaignRequest),
    "cancel": ("CancelCampaign", pb.CancelCampaignRequest),
    "delete": ("DeleteCampaign", pb.DeleteCampaignRequest),
}


async def move(office: Office, name: str, campaign: str) -> Any:
    rpc, request = MOVES[name]
    return await getattr(office.stub, rpc)(request(campaign_id=campaign, staff_id="staff-1"))


def stamp(at: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(at)
    return found


async def test_pause_lets_no_further_mail_go_out_and_resume_sends_the_rest_once(office: Office) -> None:
    """Paused between two windows: nothing more leaves; resumed: everybody has exactly one."""
    await office.customers(20)
    campaign = await office.draft()
    await office.send(campaign)
    await move(office, "pause", campaign)
    await office.work_later()
    assert office.mailbox.messages() == []
    assert await office.stats(campaign) == {"status": "paused", "queued": 20}
    await move(office, "resume", campaign)
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 20}
    assert office.mailbox.recipients() == sorted(f"customer{n}@example.com" for n in range(1, 21))


async def test_pause_in_the_middle_takes_effect_at_once(office: Office, until: Until) -> None:
    """What is on its way when staff pause arrives; the next window never begins."""
    await office.customers(40)
    office.mailbox.order(Fault.SLOW, seconds=0.5, to="customer3@example.com")
    campaign = await office.draft()
    await office.send(campaign)
    working = asyncio.create_task(office.work())

    async def arrived() -> bool:
        return bool(office.mailbox.messages("customer3@example.com"))

    await until(arrived)
    await move(office, "pause", campaign)
    await working
    stats = await office.stats(campaign)
    assert stats["status"] == "paused"
    assert stats["queued"] > 0
    assert len(office.mailbox.messages()) == stats["sent"]
    await move(office, "resume", campaign)
    await office.work_later()
    assert len(office.mailbox.messages()) == len(set(office.mailbox.recipients())) == 40


async def test_a_cancelled_campaign_sends_nothing_more(office: Office) -> None:
    """Who has not got it will not, and is counted so; it cannot be resumed."""
    await office.customers(10)
    campaign = await office.draft()
    await office.send(campaign)
    await move(office, "cancel", campaign)
    await office.work_later()
    assert await office.stats(campaign) == {"status": "cancelled", "cancelled": 10}
    assert office.mailbox.messages() == []
    with pytest.raises(Problem, match="cancelled") as caught:
        await move(office, "resume", campaign)
    assert caught.value.code == "not_sendable"


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ("draft", {"delete"}),
        ("scheduled", {"cancel"}),
        ("sending", {"pause", "cancel"}),
        ("paused", {"resume", "cancel"}),
        ("finished", set()),
        ("cancelled", set()),
    ],
)
async def test_each_status_allows_what_it_allows(office: Office, status: str, allowed: set[str]) -> None:
    """Everything else is not_sendable and changes nothing; so is sending what is no draft."""
    await office.customers(1)
    for name in MOVES:
        campaign = await office.draft()
        if status != "draft":
            await office.execute(
                "UPDATE campaigns SET status = $1, scheduled_at = now(), frozen = true,"
                " started_at = CASE WHEN $1 <> 'scheduled' THEN now() END,"
                " finished_at = CASE WHEN $1 IN ('finished', 'cancelled') THEN now() END WHERE id = $2",
                status,
                campaign,
            )
            with pytest.raises(Problem) as caught:
                await office.send(campaign)
            assert caught.value.code == "not_sendable"
        if name in allowed:
            await move(office, name, campaign)
            continue
        with pytest.raises(Problem) as caught:
            await move(office, name, campaign)
        assert (caught.value.status, caught.value.code) == (409, "not_sendable")


async def test_a_campaign_starts_when_its_time_has_come(office: Office) -> None:
    """Scheduled: not sendable a second time, frozen at its time and not before; started once."""
    await office.customers(3)
    campaign = await office.draft()
    at = stamp(datetime.now(UTC) + timedelta(hours=1))
    request = pb.SendCampaignRequest(campaign_id=campaign, staff_id="staff-1", scheduled_at=at)
    assert (await office.stub.SendCampaign(request)).status == "scheduled"
    with pytest.raises(Problem, match="scheduled"):
        await office.stub.SendCampaign(request)
    await office.work()
    assert office.mailbox.messages() == []
    await office.customers(5)
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 5}
    await office.execute("UPDATE jobs SET state = 'queued', finished_at = NULL WHERE kind = 'start_campaign'")
    await office.work_later()
    assert len(office.mailbox.messages()) == 5


async def test_a_cancelled_schedule_starts_nothing(office: Office) -> None:
    """Its job finds it cancelled."""
    await office.customers(2)
    campaign = await office.draft()
    at = stamp(datetime.now(UTC) + timedelta(hours=1))
    await office.stub.SendCampaign(pb.SendCampaignRequest(campaign_id=campaign, staff_id="s", scheduled_at=at))
    await move(office, "cancel", campaign)
    await office.work_later()
    assert office.mailbox.messages() == []
    assert (await office.stats(campaign))["status"] == "cancelled"


async def test_a_scheduled_campaign_without_an_audience_is_over_at_once(office: Office) -> None:
    """Nobody is left when its time comes: finished, with nobody in it."""
    campaign = await office.draft()
    at = stamp(datetime.now(UTC) + timedelta(hours=1))
    await office.stub.SendCampaign(pb.SendCampaignRequest(campaign_id=campaign, staff_id="s", scheduled_at=at))
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished"}


async def test_a_large_audience_is_frozen_in_stretches(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several transactions, one worker dying between two of them: everybody once, also who shares an address."""
    await office.customers(25)
    for twin in (3, 24):
        await office.stub.RecordCustomerChanged(customer(100 + twin, email=f"CUSTOMER{twin}@example.com"))
    monkeypatch.setattr("services.notifications.campaigns.service.STRETCH", 4)
    (service,) = _services(office)
    monkeypatch.setattr(service, "_stretch", 4)
    campaign = await office.draft()
    started = await office.send(campaign)
    assert started.recipients == 27  # before two with one address are one
    async with office.runtime.database.transaction() as connection:
        assert not await service._freeze(connection, campaign)  # as a worker that died after a stretch
    await office.stub.RecordCustomerChanged(customer(500))  # came after the start
    await office.work_later()
    assert await office.stats(campaign) == {"status": "finished", "sent": 25}
    assert len({address.lower() for address in office.mailbox.recipients()}) == 25


async def test_a_stretch_reads_itself_and_no_more(office: Office) -> None:
    """Of 20,000 contacts, the part that is frozen is looked at: a million are not sorted again for every stretch."""
    await office.execute(
        """
        INSERT INTO contacts (id, email, name, marketing_consent, changed_at)
        SELECT uuidv7(), 'customer' || n || '@example.com', '', true, now() FROM generate_series(1, 20000) AS n
        """
    )
    await office.execute("ANALYZE contacts")
    campaign = await office.draft()
    found = await office.rows(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {repository._FREEZE}",
        *(campaign, datetime.now(UTC), [], None, None, None, UUID(int=0), 1000, 0, 50, "holdfast.example"),
    )
    (plan,) = found[0]["QUERY PLAN"]
    (scan,) = [node for node in _nodes(plan["Plan"]) if node.get("Relation Name") == "contacts"]
    assert scan["Actual Rows"] == 1000


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _services(office: Office) -> list[CampaignService]:
    handler = office.runtime.worker._handlers["freeze_campaign"]
    cells = handler.call.__closure__ or ()
    return [cell.cell_contents for cell in cells if isinstance(cell.cell_contents, CampaignService)]


async def paid(office: Office, number: int, order: int, amount: int, *products: str, days: int = 0) -> None:
    request = pb.RecordOrderPaidRequest(
        order_id=str(UUID(int=order)),
        customer_id=str(UUID(int=number)),
        email=f"customer{number}@example.com",
        total=Money(amount=amount, currency="USD"),
        product_ids=products,
        paid_at=stamp(datetime.now(UTC) - timedelta(days=days)),
    )
    for _ in range(2):  # an event may come twice
        await office.stub.RecordOrderPaid(request)


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (pb.Audience(all=True), {1, 2, 3, 4}),
        (pb.Audience(bought_product_ids=["kibble"]), {1, 2}),
        (pb.Audience(bought_product_ids=["kibble", "harness"]), {1, 2, 3}),
        (pb.Audience(spent_over=Money(amount=5000, currency="USD")), {1, 3}),
        (pb.Audience(spent_over=Money(amount=5000, currency="EUR")), set()),
        (pb.Audience(inactive_days=30), {3, 4}),
        (pb.Audience(inactive_days=30, bought_product_ids=["harness"]), {3}),
    ],
    ids=["all", "bought", "bought any", "spent", "spent in euro", "inactive", "inactive who bought"],
)
async def test_filters_decide_who_is_frozen(office: Office, audience: pb.Audience, expected: set[int]) -> None:
    """All given filters must let a contact through; refunds are taken off, an event that comes twice counts once."""
    await office.customers(4)
    await paid(office, 1, 1, 4000, "kibble")
    await paid(office, 1, 2, 4000, "bowl")
    await paid(office, 2, 3, 9000, "kibble")
    await office.stub.RecordOrderRefunded(
        pb.RecordOrderRefundedRequest(
            order_id=str(UUID(int=3)), refunded=Money(amount=8000, currency="USD"), refunds_known=1
        )
    )
    await paid(office, 3, 4, 6000, "harness", days=60)
    draft = pb.CreateCampaignRequest(name="n", subject="s", html="<p>x</p>", audience=audience, staff_id="staff-1")
    campaign = (await office.stub.CreateCampaign(draft)).campaign_id
    if not expected:
        with pytest.raises(Problem) as caught:
            await office.send(campaign)
        assert caught.value.code == "empty_audience"
        return
    assert (await office.send(campaign)).recipients == len(expected)
    await office.work()
    assert office.mailbox.recipients() == sorted(f"customer{n}@example.com" for n in expected)


@pytest.mark.parametrize(
    "audience",
    [pb.Audience(), pb.Audience(all=True, inactive_days=3), pb.Audience(inactive_days=0)],
    ids=["nobody", "all and some", "no days"],
)
async def test_an_audience_says_who(office: Office, audience: pb.Audience) -> None:
    """Neither nobody in particular nor everybody but some."""
    draft = pb.CreateCampaignRequest(name="n", subject="s", html="x", audience=audience, staff_id="s")
    with pytest.raises(Problem) as caught:
        await office.stub.CreateCampaign(draft)
    assert caught.value.code == "validation_failed"


async def test_a_refund_may_be_heard_of_before_its_order(office: Office) -> None:
    """Events overtake one another: the sum is right in the end."""
    await office.customers(1)
    await office.stub.RecordOrderRefunded(
        pb.RecordOrderRefundedRequest(
            order_id=str(UUID(int=1)), refunded=Money(amount=900, currency="USD"), refunds_known=1
        )
    )
    await paid(office, 1, 1, 1000, "kibble")
    (row,) = await office.rows("SELECT total, refunded FROM purchases")
    assert row == {"total": 1000, "refunded": 900}


async def test_the_later_figure_of_refunds_stands(office: Office) -> None:
    """A refund that failed takes the figure down; that of before, heard of late, does not bring it up again."""
    await office.customers(1)
    await paid(office, 1, 1, 1000, "kibble")
    for known, amount in ((1, 900), (2, 0), (1, 900)):
        await office.stub.RecordOrderRefunded(
            pb.RecordOrderRefundedRequest(
                order_id=str(UUID(int=1)), refunded=Money(amount=amount, currency="USD"), refunds_known=known
            )
        )
    assert await office.rows("SELECT refunded FROM purchases") == [{"refunded": 0}]


async def test_who_was_erased_is_not_remembered_by_what_they_bought(office: Office) -> None:
    """The order may be heard of after the erasure."""
    await office.customers(1)
    await office.stub.RecordCustomerErased(
        pb.RecordCustomerErasedRequest(customer_id=str(UUID(int=1)), email="customer1@example.com")
    )
    await paid(office, 1, 1, 1000, "kibble")
    assert await office.rows("SELECT buyer FROM purchases") == []


async def test_a_draft_can_be_changed_and_read(office: Office) -> None:
    """What is not given stays; a template takes the place of HTML; what recipients get is rendered anew."""
    campaign = await office.draft(name="Autumn")
    await office.stub.UpdateCampaign(
        pb.UpdateCampaignRequest(campaign_id=campaign, subject="Winter", template="care_tips", staff_id="staff-1")
    )
    found = await office.stub.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign))
    assert (found.name, found.subject, found.template, found.html) == ("Autumn", "Winter", "care_tips", "")
    assert found.audience.all
    assert found.status == "draft"
    shown = await office.stub.PreviewCampaign(pb.PreviewCampaignRequest(campaign_id=campaign))
    assert shown.subject == "Winter"
    assert "Hello Ada Lovelace," in shown.html
    assert "slot-" not in shown.html + shown.text


async def test_campaigns_are_listed_page_by_page(office: Office) -> None:
    """Newest first, each once."""
    made = [await office.draft(name=f"n{n}") for n in range(5)]
    first = await office.stub.ListCampaigns(pb.ListCampaignsRequest(limit=3))
    rest = await office.stub.ListCampaigns(pb.ListCampaignsRequest(limit=3, cursor=first.next_cursor))
    assert [item.id for item in [*first.items, *rest.items]] == made[::-1]
    assert not rest.HasField("next_cursor")


async def test_a_test_reaches_its_address_and_counts_nobody(office: Office) -> None:
    """One mail to somebody who need not be a contact; the campaign is still a draft."""
    campaign = await office.draft()
    request = pb.TestCampaignRequest(campaign_id=campaign, to="me@example.com", staff_id="staff-1")
    await office.stub.TestCampaign(request)
    await office.work()
    assert office.mailbox.recipients() == ["me@example.com"]
    assert await office.stats(campaign) == {"status": "draft"}


async def test_every_template_can_be_previewed(office: Office) -> None:
    """All that are listed, with sample data; another name is none."""
    listed = await office.stub.ListTemplates(pb.ListTemplatesRequest())
    assert len(listed.items) > 15
    for item in listed.items:
        shown = await office.stub.PreviewTemplate(pb.PreviewTemplateRequest(name=item.name))
        assert shown.subject
        assert shown.html.startswith("<!DOCTYPE html>")
    with pytest.raises(Problem, match="no template"):
        await office.stub.PreviewTemplate(pb.PreviewTemplateRequest(name="../secrets"))


async def test_what_staff_did_is_written_with_it(office: Office) -> None:
    """Who, what, to which campaign; a refused action leaves no trace of having been done."""
    await office.customers(1)
    campaign = await office.draft()
    await office.send(campaign)
    with pytest.raises(Problem):
        await office.send(campaign)
    await move(office, "pause", campaign)
    rows = await office.rows("SELECT actor, action FROM audit_entries WHERE subject = $1 ORDER BY id", campaign)
    assert rows == [{"actor": "staff-1", "action": f"campaign.{action}"} for action in ("drafted", "sent", "paused")]


async def test_an_erased_customer_is_written_to_no_more_and_does_not_come_back(office: Office) -> None:
    """Erased after the freeze: not sent, nothing of them is left; a late event changes nothing."""
    await office.customers(2)
    campaign = await office.draft()
    await office.send(campaign)
    await office.stub.RecordCustomerErased(
        pb.RecordCustomerErasedRequest(customer_id=str(UUID(int=1)), email="customer1@example.com")
    )
    await office.stub.RecordCustomerChanged(customer(1, changed_at=later(99)))
    await office.work()
    assert office.mailbox.recipients() == ["customer2@example.com"]
    assert await office.stats(campaign) == {"status": "finished", "sent": 1, "suppressed": 1}
    assert await office.rows("SELECT FROM contacts WHERE email LIKE 'customer1@%'") == []
    assert await office.rows("SELECT FROM campaign_recipients WHERE email LIKE 'customer1@%'") == []
