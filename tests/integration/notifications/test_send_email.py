"""SendEmail: one row and one message for a key, and nothing for a mail that cannot be written."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from deploy.local.databases import database_url
from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.errors import Problem
from tests.integration.notifications.support import Office, confirmation, order_data


async def test_the_second_call_sends_nothing(office: Office) -> None:
    """Two calls with one key: the same id, one row, one message."""
    first = await office.stub.SendEmail(confirmation())
    await office.work()
    second = await office.stub.SendEmail(confirmation())
    await office.work()

    assert second.email_id == first.email_id
    assert (await office.email())["state"] == "sent"
    assert office.mailbox.recipients() == ["ada@example.com"]


async def test_twenty_calls_at_once_are_one_mail(office: Office) -> None:
    """Twenty calls with one key race: the same id for all, one row, one job, one message."""
    answers = await asyncio.gather(*(office.stub.SendEmail(confirmation()) for _ in range(20)))
    await office.work()

    assert len({answer.email_id for answer in answers}) == 1
    assert (await office.counts())["jobs"] == 1
    assert office.mailbox.recipients() == ["ada@example.com"]


@pytest.mark.parametrize(
    "other",
    [
        confirmation(to="eve@example.com"),
        confirmation(order_number="HF-2"),
        pb.SendEmailRequest(
            idempotency_key="order-confirmation:1", to="ada@example.com", template="care_tips", data_json="{}"
        ),
    ],
    ids=["recipient", "data", "template"],
)
async def test_a_key_belongs_to_one_mail(office: Office, other: pb.SendEmailRequest) -> None:
    """The same key with another recipient, other data or another template is refused, and changes nothing."""
    await office.stub.SendEmail(confirmation())
    with pytest.raises(Problem) as caught:
        await office.stub.SendEmail(other)

    assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")
    assert (await office.email())["to"] == "ada@example.com"


async def test_the_spelling_of_json_makes_no_other_mail(office: Office) -> None:
    """A retry that orders its JSON members differently is the same mail."""
    first = await office.stub.SendEmail(confirmation())
    again = confirmation()
    again.data_json = json.dumps(dict(reversed(order_data().items())), indent=2)
    assert (await office.stub.SendEmail(again)).email_id == first.email_id


def _with(**changes: object) -> pb.SendEmailRequest:
    request = confirmation()
    for name, value in changes.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "pointer"),
    [
        (_with(template="no_such"), "unknown_template", None),
        (_with(data_json="{"), "validation_failed", "/data_json"),
        (_with(data_json="[]"), "validation_failed", "/data"),
        (_with(data_json="{}"), "validation_failed", "/data/order_number"),
        (_with(data_json=json.dumps(order_data(total={"amount": 1, "currency": "XYZ"}))), None, "/data/total/currency"),
        (_with(data_json=json.dumps(order_data(order_number="1\r\nBcc: eve@example.com"))), None, "/data/order_number"),
        (_with(data_json=json.dumps(order_data(customer_name="\0"))), "validation_failed", "/data/customer_name"),
        (_with(to="ada@example.com\r\nBcc: eve@example.com"), "validation_failed", "/to"),
        (_with(to="ada@example.com, eve@example.com"), "validation_failed", "/to"),
        (_with(to=""), "validation_failed", "/to"),
        (_with(idempotency_key=""), "validation_failed", "/idempotency_key"),
        (_with(idempotency_key="a b"), "validation_failed", "/idempotency_key"),
        (_with(idempotency_key="a\n"), "validation_failed", "/idempotency_key"),
    ],
)
async def test_what_cannot_be_written_is_refused(
    office: Office, request_: pb.SendEmailRequest, code: str | None, pointer: str | None
) -> None:
    """A bad request is the caller's 422 with a pointer: no row, no job, so nothing fails for ever behind it."""
    with pytest.raises(Problem) as caught:
        await office.stub.SendEmail(request_)

    assert (caught.value.status, caught.value.code) == (422, code or "validation_failed")
    assert pointer is None or pointer in {error["pointer"] for error in caught.value.extensions["errors"]}
    assert set((await office.counts()).values()) == {0}


async def test_the_flow_can_be_followed(office: Office) -> None:
    """The caller's correlation id is in the row, in the job and in the mail's header."""
    await office.stub.SendEmail(confirmation(), correlation_id="flow-1")
    await office.work()

    email = await office.email()
    (message,) = office.mailbox.messages()
    assert email["correlation_id"] == message.correlation_id == "flow-1"
    assert [row["correlation_id"] for row in await office.rows("SELECT correlation_id FROM jobs")] == ["flow-1"]
    assert message.headers["Message-ID"] == email["message_id"]
    assert email["message_id"].endswith("@holdfast.example>")


async def test_the_message_says_what_was_bought(office: Office) -> None:
    """HTML and text both name the order, its lines and its total; the envelope is the customer's alone."""
    await office.stub.SendEmail(confirmation())
    await office.work()

    (message,) = office.mailbox.messages()
    assert message.subject == "Your order HF-10042 is confirmed"
    assert (message.to, message.sender) == (["ada@example.com"], "shop@holdfast.example")
    for part in (message.html, message.text):
        assert all(words in part for words in ("HF-10042", "Salmon Kibble", "$69.98", "$80.58", "12 Garden Street"))


async def test_row_and_job_are_born_together(office: Office, servers: Any) -> None:
    """When the job cannot be stored, neither is the mail: the caller's retry finds its key free."""
    path = office.runtime.settings.database_url.path or ""
    owner = await asyncpg.connect(database_url(servers.endpoints.postgres, path.removeprefix("/")))
    await owner.execute("ALTER TABLE jobs ADD CONSTRAINT no_room CHECK (false) NOT VALID")
    with pytest.raises(Problem, match="correlation id"):
        await office.stub.SendEmail(confirmation())
    await owner.execute("ALTER TABLE jobs DROP CONSTRAINT no_room")
    await owner.close()
    assert set((await office.counts()).values()) == {0}

    await office.stub.SendEmail(confirmation())
    await office.work()
    assert office.mailbox.recipients() == ["ada@example.com"]


CALENDAR = "BEGIN:VCALENDAR\nMETHOD:CANCEL\nEND:VCALENDAR"


async def test_a_calendar_file_is_attached(office: Office) -> None:
    """The file arrives with the line ends its RFC wants; a key belongs to a mail with its file."""
    request = confirmation()
    request.calendar_ics = CALENDAR
    await office.stub.SendEmail(request)
    await office.stub.SendEmail(request)
    await office.work()
    (message,) = office.mailbox.messages()
    raw = office.mailbox.store.raw(message.id) or b""
    assert b"text/calendar; charset=utf-8; method=CANCEL" in raw
    assert b"BEGIN:VCALENDAR\r\nMETHOD:CANCEL\r\nEND:VCALENDAR\r\n" in raw
    with pytest.raises(Problem, match="another mail"):
        await office.stub.SendEmail(confirmation())


@pytest.mark.parametrize("bad", ["hello", CALENDAR + "\nX", "BEGIN:VCALENDAR\n" + "x" * 70_000 + "\nEND:VCALENDAR"])
async def test_what_is_no_calendar_file_is_refused(office: Office, bad: str) -> None:
    """One whole calendar, and no more than 64 KiB of it."""
    request = confirmation()
    request.calendar_ics = bad
    with pytest.raises(Problem) as caught:
        await office.stub.SendEmail(request)
    assert caught.value.extensions["errors"][0]["pointer"] == "/calendar_ics"
