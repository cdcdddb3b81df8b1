"""Whatever the mail server answers, or does not: the right state, and never one message too many."""

import asyncio

import pytest

from holdfast.notifications.v1 import notifications_pb2 as pb
from sandbox.mailbox.faults import Fault
from tests.integration.notifications.support import Office, confirmation, customer, marketing


@pytest.mark.parametrize("fault", [Fault.REJECT_421, Fault.REJECT_450, Fault.REJECT_DATA_451])
async def test_later_means_later(office: Office, fault: Fault) -> None:
    """A 4xx, whenever it comes, is an answer: the mail waits and then goes out once."""
    office.mailbox.order(fault)
    await office.stub.SendEmail(confirmation())
    await office.work()

    email = await office.email()
    assert (email["state"], email["attempts"], email["ambiguous"]) == ("retrying", 1, 0)
    assert email["last_error"].startswith(fault.value.rpartition("_")[2])
    assert office.mailbox.messages() == []

    await office.work_later()
    assert (await office.email())["state"] == "sent"
    assert office.mailbox.recipients() == ["ada@example.com"]


async def test_the_wait_is_long_enough_for_greylisting(office: Office) -> None:
    """After "later" the next attempt is seconds away, not at once; after the second "later", minutes."""
    office.mailbox.order(Fault.REJECT_450, times=2)
    await office.stub.SendEmail(confirmation())
    waits = []
    for run in (office.work, office.work_later):
        await run()
        (row,) = await office.rows("SELECT extract(epoch FROM run_at - now())::float8 AS wait, attempt FROM jobs")
        waits.append(row["wait"])
        assert row["attempt"] == 0  # the mail counts its attempts, the job's are for its own accidents
    assert 10 < waits[0] <= 45
    assert 70 < waits[1] <= 225


async def test_three_attempts_and_no_more(office: Office) -> None:
    """The third "later" is the last: failed for good, counted for the dashboard, no job left."""
    office.mailbox.order(Fault.REJECT_450, times=10, to="ada@example.com")
    await office.stub.SendEmail(confirmation())
    await office.work()
    await office.work_later()
    await office.work_later()

    email = await office.email()
    assert (email["state"], email["attempts"]) == ("failed", 3)
    assert await office.work_later() == 0
    summary = await office.stub.GetSummary(pb.GetSummaryRequest())
    assert (summary.failed_emails, summary.dead_letters) == (1, 0)


@pytest.mark.parametrize("fault", [Fault.REJECT_550, Fault.REJECT_DATA_554])
async def test_no_means_no(office: Office, fault: Fault) -> None:
    """A 5xx is final: one attempt, failed, nothing waits."""
    office.mailbox.order(fault)
    await office.stub.SendEmail(confirmation())
    await office.work()

    email = await office.email()
    assert (email["state"], email["attempts"]) == ("failed", 1)
    assert await office.work_later() == 0
    assert office.mailbox.messages() == []


async def test_hung_up_before_the_content_is_no_attempt(office: Office) -> None:
    """A connection lost before the content left cannot have delivered it: tried again, and not counted."""
    office.mailbox.order(Fault.DROP_BEFORE_DATA)
    await office.stub.SendEmail(confirmation())
    await office.work()
    email = await office.email()
    assert (email["state"], email["attempts"], email["unreached"]) == ("retrying", 1, 1)
    assert email["ambiguous"] == 0

    await office.work_later()
    assert (await office.email())["state"] == "sent"
    assert len(office.mailbox.messages()) == 1


async def test_an_outage_loses_no_mail(office: Office) -> None:
    """A mail server that is away for many attempts costs the mail none of its three."""
    office.mailbox.order(Fault.DROP_BEFORE_DATA, times=6)
    await office.stub.SendEmail(confirmation())
    await office.work()
    for _ in range(6):
        assert (await office.email())["state"] == "retrying"
        await office.work_later()
    assert (await office.email())["state"] == "sent"
    assert len(office.mailbox.messages()) == 1


async def test_a_mail_waits_a_day_for_a_server_and_no_longer(office: Office) -> None:
    """After a day without a server the mail has failed, so that somebody is told."""
    office.mailbox.order(Fault.DROP_BEFORE_DATA)
    await office.stub.SendEmail(confirmation())
    await office.execute("UPDATE emails SET created_at = now() - interval '25 hours'")
    await office.work()
    assert (await office.email())["state"] == "failed"


async def test_silence_after_the_content_is_resent_once_as_the_same_mail(office: Office) -> None:
    """The server took it and hung up: one more attempt, the same bytes under the same Message-ID."""
    office.mailbox.order(Fault.DROP_AFTER_DATA)
    await office.stub.SendEmail(confirmation())
    await office.work()
    email = await office.email()
    assert (email["state"], email["ambiguous"]) == ("retrying", 1)

    await office.work_later()
    assert (await office.email())["state"] == "sent"
    first, second = office.mailbox.messages()
    assert first.headers["Message-ID"] == second.headers["Message-ID"] == email["message_id"]
    assert office.mailbox.store.raw(first.id) == office.mailbox.store.raw(second.id)


async def test_silence_twice_is_unknown(office: Office) -> None:
    """After the one resend nobody sends again: the mail is listed as unknown."""
    office.mailbox.order(Fault.DROP_AFTER_DATA, times=5, to="ada@example.com")
    await office.stub.SendEmail(confirmation())
    await office.work()
    await office.work_later()
    assert (await office.email())["state"] == "unknown"
    assert await office.work_later() == 0
    assert len(office.mailbox.messages()) == 2


async def test_refused_after_silence_is_unknown(office: Office) -> None:
    """A 5xx to the resend does not take the first copy back: unknown, not failed."""
    office.mailbox.order(Fault.DROP_AFTER_DATA)
    await office.stub.SendEmail(confirmation())
    await office.work()
    office.mailbox.order(Fault.REJECT_550)
    await office.work_later()
    assert (await office.email())["state"] == "unknown"


async def test_a_slow_server_is_silence(office: Office) -> None:
    """An answer that does not come in time is the same as none."""
    office.mailbox.order(Fault.SLOW, seconds=600)
    await office.stub.SendEmail(confirmation())
    await office.work()
    email = await office.email()
    assert (email["state"], email["ambiguous"]) == ("retrying", 1)
    assert "Ran out of time" in email["last_error"]


async def test_marketing_is_never_sent_again(office: Office) -> None:
    """Missing an advertisement is better than getting it twice."""
    await office.stub.RecordCustomerChanged(customer(email="ada@example.com"))
    office.mailbox.order(Fault.DROP_AFTER_DATA)
    await office.stub.SendEmail(marketing())
    await office.work()
    assert (await office.email())["state"] == "unknown"
    assert await office.work_later() == 0
    assert len(office.mailbox.messages()) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_marketing_needs_consent(office: Office, known: bool) -> None:
    """Who did not agree, or is not known at all, gets no marketing; the mail says why."""
    if known:
        await office.stub.RecordCustomerChanged(customer(email="ada@example.com", consent=False))
    await office.stub.SendEmail(marketing(to="Ada@example.com"))
    await office.work()
    email = await office.email()
    assert (email["state"], email["attempts"]) == ("suppressed", 0)
    assert office.mailbox.messages() == []


async def test_one_bad_address_holds_up_nobody(office: Office) -> None:
    """Mails fail one by one: the neighbours of a refused one arrive."""
    office.mailbox.order(Fault.REJECT_550, to="customer3@example.com")
    await asyncio.gather(*(office.stub.SendEmail(confirmation(f"k:{n}", f"customer{n}@example.com")) for n in range(6)))
    await office.work()
    assert len(office.mailbox.messages()) == 5
    (row,) = await office.rows("SELECT \"to\" FROM emails WHERE state = 'failed'")
    assert row["to"] == "customer3@example.com"
