"""A campaign reaches each recipient once, however often it is started."""

import asyncio

import pytest

from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.errors import Problem
from tests.integration.notifications.support import Office, customer, later


@pytest.mark.parametrize("count", [20, 200])
async def test_clicks_at_once_start_it_once(office: Office, count: int) -> None:
    """So many SendCampaign race: one starts it, the others are not_sendable, each recipient has one message."""
    await office.customers(30)
    campaign = await office.draft()
    clicks = await asyncio.gather(*(office.send(campaign) for _ in range(count)), return_exceptions=True)

    started = [click for click in clicks if not isinstance(click, BaseException)]
    refused = [click for click in clicks if isinstance(click, Problem)]
    assert [(answer.status, answer.recipients) for answer in started] == [("sending", 30)]
    assert [(problem.status, problem.code) for problem in refused] == [(409, "not_sendable")] * (count - 1)

    await office.work()
    assert office.mailbox.recipients() == sorted(f"customer{n}@example.com" for n in range(1, 31))
    assert await office.stats(campaign) == {"status": "finished", "sent": 30}


async def test_a_click_afterwards_sends_nothing(office: Office) -> None:
    """A finished campaign is no draft any more."""
    await office.customers(2)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    with pytest.raises(Problem, match="finished") as caught:
        await office.send(campaign)
    assert caught.value.code == "not_sendable"
    await office.work()
    assert len(office.mailbox.messages()) == 2


async def test_a_batch_that_runs_again_sends_nothing(office: Office) -> None:
    """Every batch job delivered a second time: no second message, and no second follower in the queue."""
    await office.customers(20)
    campaign = await office.draft()
    await office.send(campaign)
    await office.work()
    jobs = (await office.counts())["jobs"]
    assert jobs == 3  # batches of 7
    await office.execute("UPDATE jobs SET state = 'queued', finished_at = NULL WHERE state = 'done'")
    await office.work()
    assert len(office.mailbox.messages()) == 20
    assert (await office.counts())["jobs"] == jobs


async def test_only_a_few_batches_wait_at_once(office: Office) -> None:
    """A large campaign does not fill the queue: a mail that somebody waits for finds two jobs before it."""
    await office.customers(60)
    await office.send(await office.draft())
    rows = await office.rows("SELECT payload->'batch' AS batch FROM jobs WHERE kind <> 'append_audit' ORDER BY id")
    assert [row["batch"] for row in rows] == [0, 1]
    await office.work()
    assert (await office.counts())["jobs"] == 9
    assert len(office.mailbox.messages()) == 60


async def test_consent_decides_who_is_frozen(office: Office) -> None:
    """Who did not agree or is suppressed is no recipient; who comes later is none of this campaign."""
    await office.customers(3)
    await office.stub.RecordCustomerChanged(customer(4, consent=False))
    await office.execute("UPDATE contacts SET suppressed = true WHERE email = 'customer2@example.com'")
    campaign = await office.draft()
    assert (await office.send(campaign)).recipients == 2
    await office.stub.RecordCustomerChanged(customer(5))
    await office.work()
    assert office.mailbox.recipients() == ["customer1@example.com", "customer3@example.com"]


async def test_consent_is_looked_at_again_before_each_mail(office: Office) -> None:
    """Withdrawn, suppressed or erased between the click and the send: not sent, and counted as suppressed."""
    await office.customers(4)
    campaign = await office.draft()
    await office.send(campaign)
    await office.stub.RecordCustomerChanged(customer(1, consent=False, changed_at=later(1)))
    await office.execute("UPDATE contacts SET suppressed = true WHERE email = 'customer2@example.com'")
    await office.execute("DELETE FROM contacts WHERE email = 'customer3@example.com'")
    await office.work()
    assert office.mailbox.recipients() == ["customer4@example.com"]
    assert await office.stats(campaign) == {"status": "finished", "sent": 1, "suppressed": 3}


async def test_an_address_gets_one_mail(office: Office) -> None:
    """Two accounts with one address, however it is spelled, are one recipient."""
    await office.stub.RecordCustomerChanged(customer(1, email="ada@example.com"))
    await office.stub.RecordCustomerChanged(customer(2, email="Ada@Example.com"))
    campaign = await office.draft()
    assert (await office.send(campaign)).recipients == 1
    await office.work()
    assert len(office.mailbox.messages()) == 1


async def test_nobody_to_send_to_leaves_a_draft(office: Office) -> None:
    """An empty audience is a 422, and the campaign can still be sent when somebody agrees."""
    campaign = await office.draft()
    with pytest.raises(Problem) as caught:
        await office.send(campaign)
    assert (caught.value.status, caught.value.code) == (422, "empty_audience")
    assert await office.stats(campaign) == {"status": "draft"}
    await office.customers(1)
    assert (await office.send(campaign)).recipients == 1


async def test_each_is_greeted_by_name(office: Office) -> None:
    """The recipient's name is in the mail, escaped in the HTML; staff's HTML is there as they wrote it."""
    await office.stub.RecordCustomerChanged(customer(1, name="Ada <script>alert(1)</script>"))
    await office.stub.RecordCustomerChanged(customer(2, name=""))
    campaign = await office.draft(html='<p>See <a href="https://shop.example/coats">coats</a> &amp; more</p>')
    await office.send(campaign)
    await office.work()

    (named,) = office.mailbox.messages("customer1@example.com")
    assert "Hello Ada &lt;script&gt;alert(1)&lt;/script&gt;," in named.html
    assert "<script>" not in named.html
    assert 'href="https://shop.example/coats"' in named.html
    assert "Hello Ada <script>alert(1)</script>," in named.text
    assert "See coats <https://shop.example/coats> & more" in named.text
    (unnamed,) = office.mailbox.messages("customer2@example.com")
    assert unnamed.text.startswith("Hello,\r\n")


async def test_a_template_of_ours_can_be_a_campaign(office: Office) -> None:
    """A marketing template needs no HTML."""
    await office.customers(1)
    await office.send(await office.draft(template="care_tips", subject="Tips"))
    await office.work()
    (message,) = office.mailbox.messages()
    assert (message.subject, "Hello Customer 1," in message.text) == ("Tips", True)


async def test_the_click_can_be_followed_to_every_mail(office: Office) -> None:
    """The correlation id of the click is in each mail's header and on each batch."""
    await office.customers(9)
    campaign = await office.draft()
    request = pb.SendCampaignRequest(campaign_id=campaign, staff_id="staff-1")
    await office.stub.SendCampaign(request, correlation_id="click-1")
    await office.work()
    assert {message.correlation_id for message in office.mailbox.messages()} == {"click-1"}
    flows = await office.rows("SELECT DISTINCT correlation_id FROM jobs WHERE kind <> 'append_audit'")
    assert flows == [{"correlation_id": "click-1"}]


async def test_the_stored_draft_is_what_goes_out(office: Office) -> None:
    """The mail is rendered with the draft: it says what was stored, whoever sends it later."""
    await office.customers(1)
    campaign = await office.draft()
    await office.execute("UPDATE campaigns SET html = 'changed by hand'")
    await office.send(campaign)
    await office.work()
    (message,) = office.mailbox.messages()
    assert "New coats" in message.html


@pytest.mark.parametrize(
    "unknown", ["01980000-0000-7000-8000-000000000001", "", "no-id", "'; DROP TABLE campaigns; --"]
)
async def test_unknown_campaigns_are_not_found(office: Office, unknown: str) -> None:
    """No such id, or no id at all: 404 for sending and for stats."""
    for call in (office.send, office.stats):
        with pytest.raises(Problem) as caught:
            await call(unknown)
        assert (caught.value.status, caught.value.code) == (404, "campaign_not_found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "validation_failed"),
        ({"subject": ""}, "validation_failed"),
        ({"subject": "Hi\r\nBcc: eve@example.com"}, "validation_failed"),
        ({"subject": "x" * 201}, "validation_failed"),
        ({"html": ""}, "validation_failed"),
        ({"html": "\0"}, "validation_failed"),
        ({"html": "x" * (512 * 1024 + 1)}, "validation_failed"),
        ({"template": "no_such"}, "unknown_template"),
        ({"template": "order_confirmation"}, "unknown_template"),
        ({"staff_id": "a\nb"}, "validation_failed"),
        ({"audience": pb.Audience(all=False)}, "validation_failed"),
        ({"audience": None}, "validation_failed"),
    ],
)
async def test_a_bad_draft_is_refused(office: Office, fields: dict[str, object], code: str) -> None:
    """A draft that could not be sent is not stored."""
    values = {
        "name": "Autumn",
        "subject": "Autumn is here",
        "html": "<p>New coats</p>",
        "audience": pb.Audience(all=True),
        "staff_id": "staff-1",
    }
    if "template" in fields:
        del values["html"]
    request = pb.CreateCampaignRequest(**(values | fields))  # type: ignore[arg-type]
    with pytest.raises(Problem) as caught:
        await office.stub.CreateCampaign(request)
    assert (caught.value.status, caught.value.code) == (422, code)
    assert (await office.counts())["campaigns"] == 0
