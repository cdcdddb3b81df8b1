"""What somebody declined is not sent; what bounced is not tried again; nobody else can say so for them."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from holdfast.notifications.v1 import notifications_pb2 as pb
from reliability.context import Principal
from reliability.runtime import Application
from tests.integration.notifications.conftest import WEBHOOK_SECRET
from tests.integration.notifications.support import STAFF, Office, confirmation, customer, later, marketing

ADA = Principal(
    id="00000000-0000-0000-0000-000000000001",
    kind="customer",
    email="customer1@example.com",
    name="Customer 1",
    role="customer",
    permissions=frozenset(),
)


@pytest.fixture
def http(office: Office, client_for: Callable[[Application], httpx.AsyncClient]) -> httpx.AsyncClient:
    """Ada's browser."""

    async def ada(_request: Request) -> Principal:
        return ADA

    return client_for(replace(office.application, authenticate=ada))


def back_in_stock(to: str = "guest@example.com") -> pb.SendEmailRequest:
    data = {"title": "Kibble", "link": "https://shop.example/kibble"}
    return pb.SendEmailRequest(
        idempotency_key=f"back:{to}", to=to, template="back_in_stock", data_json=json.dumps(data)
    )


async def link_in(office: Office, to: str) -> str:
    """The path behind the link in the newest mail to somebody, as its header names it."""
    header = office.mailbox.messages(to)[-1].headers["List-Unsubscribe"]
    found = re.fullmatch(r"<https://shop\.example(/api/unsubscribe/\S+)>", header)
    assert found
    return found[1]


async def test_one_click_ends_it(office: Office, http: httpx.AsyncClient) -> None:
    """The mail program posts the form of RFC 8058: no more news, for no other topic, and no order mail is held back."""
    await office.customers(1)
    await office.send(await office.draft())
    await office.work()
    path = await link_in(office, ADA.email)
    form = {"content": "List-Unsubscribe=One-Click", "headers": {"content-type": "application/x-www-form-urlencoded"}}
    for _ in range(2):
        assert (await http.post(path, **form)).status_code == 200  # type: ignore[arg-type]
    assert (await http.get("/api/me/preferences")).json() == {
        "news": False,
        "cart_reminders": False,
        "back_in_stock": True,
        "pending": [],
    }
    await office.stub.SendEmail(marketing(to=ADA.email))
    await office.stub.SendEmail(confirmation(to=ADA.email))
    await office.work()
    rows = await office.rows("SELECT template, state FROM emails ORDER BY id")
    assert [(row["template"], row["state"]) for row in rows] == [
        ("care_tips", "suppressed"),
        ("order_confirmation", "sent"),
    ]


async def test_looking_at_the_link_changes_nothing(office: Office, http: httpx.AsyncClient) -> None:
    """Scanners of mail follow every link: GET shows a page with a button."""
    await office.customers(1)
    await office.stub.SendEmail(marketing(to=ADA.email))
    await office.work()
    page = await http.get(await link_in(office, ADA.email))
    assert page.status_code == 200
    assert '<form method="post">' in page.text
    assert ADA.email in page.text
    assert "no-store" in page.headers["cache-control"]
    assert (await http.get("/api/me/preferences")).json()["news"] is True


async def test_a_guest_who_asked_can_decline_too(office: Office, http: httpx.AsyncClient) -> None:
    """Back in stock goes to an address without an account, with a link that works for it alone."""
    await office.stub.SendEmail(back_in_stock())
    await office.work()
    assert office.mailbox.recipients() == ["guest@example.com"]
    await http.post(await link_in(office, "guest@example.com"))
    await office.stub.SendEmail(back_in_stock("GUEST@example.com"))
    await office.stub.SendEmail(back_in_stock("other@example.com"))
    await office.work()
    assert office.mailbox.recipients() == ["guest@example.com", "other@example.com"]


async def test_a_forged_link_does_nothing(office: Office, http: httpx.AsyncClient) -> None:
    """Another address, another topic, a cut signature: 404, and nothing changes."""
    await office.customers(1)
    await office.stub.SendEmail(marketing(to=ADA.email))
    await office.work()
    path = await link_in(office, ADA.email)
    words, _, signature = path.rpartition("/")[2].partition(".")
    said = json.loads(base64.urlsafe_b64decode(words + "=="))
    other = base64.urlsafe_b64encode(json.dumps(said | {"a": "victim@example.com"}).encode()).decode().rstrip("=")
    for token in (f"{other}.{signature}", words, f"{words}.", f"{words}.{signature[:-1]}x", "x.y", "%00"):
        answer = await http.post(f"/api/unsubscribe/{token}")
        assert answer.status_code == 404, token
    assert await office.rows("SELECT FROM opt_outs") == []


async def test_agreeing_takes_a_click_in_the_mail(office: Office, http: httpx.AsyncClient) -> None:
    """Double opt-in: nothing is sent before the click, one question a day however often it is asked for."""
    await office.stub.RecordCustomerChanged(customer(1, consent=False))
    for _ in range(3):
        answer = await http.put("/api/me/preferences", json={"news": True})
        assert (answer.json()["news"], answer.json()["pending"]) == (False, ["news"])
    await office.work()
    (question,) = office.mailbox.messages(ADA.email)
    assert "List-Unsubscribe" not in question.headers
    found = re.search(r"https://shop\.example(/api/unsubscribe/\S+)", question.text)
    assert found
    assert (await http.post(found[1])).status_code == 200
    assert (await http.get("/api/me/preferences")).json()["news"] is True
    assert (await office.send(await office.draft())).recipients == 1


async def test_a_withdrawal_survives_another_event(office: Office, http: httpx.AsyncClient) -> None:
    """Accounts tells of a new name, consent as it was when they signed up: the withdrawal made here stays."""
    await office.customers(1)
    assert (await http.put("/api/me/preferences", json={"news": False})).json()["news"] is False
    await office.stub.RecordCustomerChanged(customer(1, name="Ada L.", changed_at=later(5)))
    assert (await http.get("/api/me/preferences")).json()["news"] is False
    # Given anew where it was withdrawn: accounts said no in between.
    await office.stub.RecordCustomerChanged(customer(1, consent=False, changed_at=later(6)))
    await office.stub.RecordCustomerChanged(customer(1, consent=True, changed_at=later(7)))
    assert (await http.get("/api/me/preferences")).json()["news"] is True


@pytest.mark.parametrize("body", [{"news": "yes"}, {"everything": False}, [], {"news": None, "x": 1}])
async def test_preferences_are_checked(http: httpx.AsyncClient, body: Any) -> None:
    """A word that is no topic is refused, and so is what is no boolean."""
    assert (await http.put("/api/me/preferences", json=body)).status_code == 422


async def test_preferences_need_somebody(office: Office, client_for: Callable[..., httpx.AsyncClient]) -> None:
    """Nobody is signed in."""
    anonymous = client_for(office.application)
    assert (await anonymous.get("/api/me/preferences")).status_code == 401


def event(kind: str, *, to: str = "customer1@example.com", email_id: str = "e-1", **data: Any) -> bytes:
    return json.dumps({"type": kind, "data": {"email_id": email_id, "to": [to], **data}}).encode()


def signed(body: bytes, *, event_id: str = "msg_1", at: float | None = None, secret: str = WEBHOOK_SECRET) -> Any:
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{event_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,bm90IG91cnM= v1,{base64.b64encode(mac).decode()}"
    return {"svix-id": event_id, "svix-timestamp": stamp, "svix-signature": signature}


BOUNCE = event("email.bounced", bounce={"type": "Permanent", "message": "no such mailbox"})


async def test_a_bounce_ends_an_address_and_staff_hear_of_mail_that_mattered(
    office: Office, http: httpx.AsyncClient
) -> None:
    """The confirmation came back: failed after all, staff told once, and nothing more goes."""
    await office.customers(1)
    await office.stub.SendEmail(confirmation(to=ADA.email))
    await office.work()
    await office.execute("UPDATE emails SET provider_id = 'e-1'")
    answers = [(await http.post("/api/email/webhook", content=BOUNCE, headers=signed(BOUNCE))).json() for _ in range(3)]
    assert answers == [{"received": True, "duplicate": duplicate} for duplicate in (False, True, True)]
    await office.work()
    assert (await office.email())["state"] == "failed"
    assert len(office.mailbox.messages(STAFF)) == 1
    await office.stub.SendEmail(confirmation("again", to=ADA.email))
    await office.work()
    assert len(office.mailbox.messages(ADA.email)) == 1
    (row,) = await office.rows("SELECT state FROM emails WHERE idempotency_key = 'again'")
    assert row["state"] == "suppressed"


async def test_nobody_writes_to_what_is_left_of_somebody(office: Office) -> None:
    """A refund of an order whose customer was erased: no mail goes to the tombstone, and none waits."""
    await office.stub.SendEmail(confirmation("late", to="erased-7@Erased.example"))
    await office.work()
    assert office.mailbox.messages("erased-7@Erased.example") == []
    (row,) = await office.rows("SELECT state FROM emails WHERE idempotency_key = 'late'")
    assert row["state"] == "suppressed"


async def test_a_bounce_that_is_faster_than_our_own_note_is_not_lost(office: Office, http: httpx.AsyncClient) -> None:
    """The provider may report before we have written down what it calls the mail: it is looked for again."""
    await office.stub.SendEmail(confirmation(to=ADA.email))
    await office.work()
    await http.post("/api/email/webhook", content=BOUNCE, headers=signed(BOUNCE))
    await office.work()
    assert (await office.email())["state"] == "sent"
    await office.execute("UPDATE emails SET provider_id = 'e-1'")
    await office.work_later()
    assert (await office.email())["state"] == "failed"
    assert len(office.mailbox.messages(STAFF)) == 1


async def test_a_bounce_of_a_mail_that_is_not_ours_is_looked_for_no_longer_than_minutes(
    office: Office, http: httpx.AsyncClient
) -> None:
    """Somebody else may send through the same account."""
    await http.post("/api/email/webhook", content=BOUNCE, headers=signed(BOUNCE))
    await office.work()
    await office.execute("UPDATE jobs SET created_at = now() - interval '1 hour'")
    await office.work_later()
    (row,) = await office.rows("SELECT state FROM inbox")
    assert row["state"] == "processed"


@pytest.mark.parametrize("kind", ["email.failed", "email.suppressed"])
async def test_what_the_provider_took_and_could_not_send_has_failed(
    office: Office, http: httpx.AsyncClient, kind: str
) -> None:
    """Not sent after all; the address is not to blame. What staff send again is another mail to the provider."""
    await office.stub.SendEmail(confirmation(to=ADA.email))
    await office.work()
    await office.execute("UPDATE emails SET provider_id = 'e-1'")
    before = (await office.email())["message_id"]
    body = event(kind, failed={"reason": "reached_daily_quota"})
    await http.post("/api/email/webhook", content=body, headers=signed(body))
    await office.work()
    mail = await office.email()
    assert (mail["state"], kind == "email.suppressed" or "reached_daily_quota" in mail["last_error"]) == (
        "failed",
        True,
    )
    assert await office.rows("SELECT FROM suppressions") == []
    assert len(office.mailbox.messages(STAFF)) == 1
    await office.stub.RetryEmail(pb.RetryEmailRequest(email_id=str(mail["id"]), staff_id="staff-1"))
    await office.work()
    again = await office.email()
    assert (again["state"], again["message_id"] == before) == ("sent", False)


async def test_a_complaint_ends_marketing_and_nothing_else(office: Office, http: httpx.AsyncClient) -> None:
    """Whoever calls it spam still gets what they ordered."""
    await office.customers(1)
    body = event("email.complained")
    await http.post("/api/email/webhook", content=body, headers=signed(body))
    await office.work()
    await office.stub.SendEmail(marketing(to=ADA.email))
    await office.stub.SendEmail(confirmation(to=ADA.email))
    await office.stub.RecordCustomerChanged(customer(1, changed_at=later(9)))
    await office.work()
    assert [message.subject for message in office.mailbox.messages()] == ["Your order HF-10042 is confirmed"]
    assert (await http.get("/api/me/preferences")).json()["news"] is False


async def test_who_complained_and_agrees_again_is_written_to(office: Office, http: httpx.AsyncClient) -> None:
    """The page says so, and it is so; an address that bounced is gone, whatever anybody agrees to."""
    await office.customers(1)
    body = event("email.complained")
    await http.post("/api/email/webhook", content=body, headers=signed(body))
    await office.work()
    assert (await http.put("/api/me/preferences", json={"news": True})).json()["pending"] == ["news"]
    await office.work()
    (mail,) = office.mailbox.messages(ADA.email)
    found = re.search(r"https://shop\.example(/api/unsubscribe/\S+)", mail.text)
    assert found
    page = await http.post(found[1])
    assert "gets news from us" in page.text
    assert (await http.get("/api/me/preferences")).json()["news"] is True
    await http.post("/api/email/webhook", content=BOUNCE, headers=signed(BOUNCE, event_id="msg_2"))
    await office.work()
    await http.post(found[1])
    assert (await http.get("/api/me/preferences")).json()["news"] is False


@pytest.mark.parametrize(
    "body",
    [
        event("email.delivered"),
        event("email.bounced", bounce={"type": "Transient"}),
        b'{"type": "x", "data": null}',
        b'{"type": "x", "data": "nothing"}',
    ],
)
async def test_other_events_change_nothing(office: Office, http: httpx.AsyncClient, body: bytes) -> None:
    """A full mailbox is no lost one."""
    assert (await http.post("/api/email/webhook", content=body, headers=signed(body))).status_code == 200
    await office.work()
    assert await office.rows("SELECT FROM suppressions") == []
    (row,) = await office.rows("SELECT state FROM inbox")
    assert row["state"] == "ignored"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "invalid_signature"),
        (signed(BOUNCE, secret="whsec_" + base64.b64encode(b"another").decode()), "invalid_signature"),
        (signed(BOUNCE + b" "), "invalid_signature"),
        (signed(BOUNCE, at=1), "stale_signature"),
        (signed(BOUNCE) | {"svix-id": "msg_2"}, "invalid_signature"),
        (signed(BOUNCE) | {"svix-timestamp": "\u0661"}, "invalid_signature"),
    ],
    ids=["none", "another secret", "another body", "old", "another id", "no time"],
)
async def test_only_the_provider_is_believed(
    office: Office, http: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    """400 and nothing stored."""
    raw = {name: value.encode() for name, value in headers.items()}
    answer = await http.post("/api/email/webhook", content=BOUNCE, headers=raw)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert await office.rows("SELECT FROM inbox") == []


async def test_failed_mail_is_listed_sent_again_and_discarded(office: Office) -> None:
    """Without its words; again with all its attempts; discarded, it is off the dashboard's count."""
    await office.stub.SendEmail(confirmation())
    await office.work()
    await office.execute("UPDATE emails SET state = 'failed', sent_at = NULL, attempts = 3 WHERE template <> 'x'")
    listed = await office.stub.ListEmails(pb.ListEmailsRequest(state="failed"))
    (item,) = listed.items
    assert (item.to, item.template, item.attempts) == ("ada@example.com", "order_confirmation", 3)
    retry = pb.RetryEmailRequest(email_id=item.id, staff_id="staff-1")
    assert (await office.stub.RetryEmail(retry)).state == "queued"
    await office.work()
    assert (await office.email())["state"] == "sent"
    with pytest.raises(Exception, match="has not failed"):
        await office.stub.RetryEmail(retry)
    await office.execute("UPDATE emails SET state = 'failed', sent_at = NULL")
    await office.stub.DiscardEmail(pb.DiscardEmailRequest(email_id=item.id, staff_id="staff-1"))
    assert (await office.stub.GetSummary(pb.GetSummaryRequest())).failed_emails == 0
    with pytest.raises(Exception, match="no such mail"):
        await office.stub.DiscardEmail(pb.DiscardEmailRequest(email_id="x", staff_id="staff-1"))
