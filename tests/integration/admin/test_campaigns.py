"""Campaigns over HTTP, with the real notifications behind it: however often somebody clicks, it starts once."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.integration.admin.conftest import CONTACTS, Until
from tests.integration.admin.support import CAMPAIGNS, DRAFT, SEND, STAFF, Admin

GRACE = replace(STAFF, id="staff-2")
SHORT = {"X-Envoy-Expected-Rq-Timeout-Ms": "700"}


def codes(answers: Iterable[httpx.Response]) -> Counter[tuple[int, str]]:
    """How many answers of each kind."""
    return Counter((answer.status_code, answer.json().get("code", "")) for answer in answers)


async def frozen(admin: Admin, campaign: str) -> tuple[str, int, int]:
    """The campaign's status, its recipients, and the batches that were queued for it: what a start leaves behind."""
    notifications = admin.others["notifications"]
    return (
        await notifications.value("SELECT status FROM campaigns WHERE id = $1::text::uuid", campaign),
        await notifications.value(
            "SELECT count(*) FROM campaign_recipients WHERE campaign_id = $1::text::uuid", campaign
        ),
        await notifications.value("SELECT count(*) FROM jobs WHERE payload ->> 'campaign_id' = $1", campaign),
    )


STARTED = ("sending", CONTACTS, 1)
UNTOUCHED = ("draft", 0, 0)


async def test_a_draft_is_made_sent_and_counted(admin: Admin) -> None:
    """The three routes in the words of the contract."""
    made = await admin.post(CAMPAIGNS, DRAFT)
    campaign = made.json()["id"]
    assert (made.status_code, made.json()) == (201, {"id": campaign, "status": "draft"})
    empty = (await admin.get(f"{CAMPAIGNS}/{campaign}/stats")).json()
    numbers = {"recipients": 0, "queued": 0, "sent": 0, "failed": 0, "unknown": 0, "suppressed": 0, "cancelled": 0}
    assert empty == {**numbers, "status": "draft"}
    sent = await admin.send(campaign)
    assert (sent.status_code, sent.json()) == (202, {"id": campaign, "status": "sending", "recipients": CONTACTS})
    stats = (await admin.get(f"{CAMPAIGNS}/{campaign}/stats")).json()
    assert stats == {**numbers, "recipients": CONTACTS, "queued": CONTACTS, "status": "sending"}
    assert await frozen(admin, campaign) == STARTED


async def test_whom_a_campaign_did_not_reach_is_listed(admin: Admin) -> None:
    """Staff see who it is and why."""
    campaign = await admin.draft()
    await admin.send(campaign)
    await admin.others["notifications"].execute(
        "UPDATE campaign_recipients SET state = 'unknown', attempts = 1, settled_at = now(), last_error = 'no answer' "
        "WHERE campaign_id = $1::text::uuid",
        campaign,
    )
    answer = await admin.get(f"{CAMPAIGNS}/{campaign}/undelivered", {"state": "unknown"})
    found = answer.json()
    assert (answer.status_code, found["next_cursor"], len(found["items"])) == (200, None, CONTACTS)
    assert {"contact_id", "email", "state", "attempts", "last_error", "settled_at"} == found["items"][0].keys()


async def test_the_member_of_staff_is_who_the_token_says(admin: Admin) -> None:
    """Nobody drafts or starts in another's name; the flow's correlation id goes along."""
    made = await admin.post(CAMPAIGNS, {**DRAFT, "staff_id": "somebody-else"})
    body = {"campaign_id": made.json()["id"], "staff_id": "somebody-else"}
    await admin.post(SEND, body, who=GRACE, headers={"X-Correlation-ID": "flow-of-autumn"})
    (row,) = await admin.others["notifications"].rows(
        "SELECT created_by, started_by, correlation_id FROM campaigns WHERE id = $1::text::uuid", body["campaign_id"]
    )
    assert row == {"created_by": STAFF.id, "started_by": GRACE.id, "correlation_id": "flow-of-autumn"}


async def test_a_template_is_a_body_too(admin: Admin) -> None:
    """Of the two kinds exactly one is given."""
    body = {**{name: value for name, value in DRAFT.items() if name != "html"}, "template": "care_tips"}
    assert (await admin.post(CAMPAIGNS, body)).status_code == 201


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": 5}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"subject": "Autumn\r\nBcc: eve@example.com"}, "/subject"),
        ({"subject": "\0"}, "/subject"),
        ({"html": None}, ""),
        ({"template": "care_tips"}, ""),
        ({"html": ["<p>"]}, "/html"),
        ({"audience": None}, "/audience"),
        ({"audience": "all"}, "/audience"),
        ({"audience": {}}, "/audience"),
        ({"audience": {"all": "yes"}}, "/audience/all"),
        ({"audience": {"all": False}}, "/audience"),
    ],
)
async def test_a_bad_draft_is_refused(admin: Admin, change: dict[str, Any], pointer: str) -> None:
    """422 with the pointer to the field, whichever of the two services found it; None leaves the field out."""
    body = {name: value for name, value in {**DRAFT, **change}.items() if value is not None}
    before = await admin.others["notifications"].value("SELECT count(*) FROM campaigns")
    answer = await admin.post(CAMPAIGNS, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await admin.others["notifications"].value("SELECT count(*) FROM campaigns") == before


async def test_an_unknown_template_is_refused_in_its_owners_words(admin: Admin) -> None:
    """Code, status and title come from notifications as they are."""
    body = {**{name: value for name, value in DRAFT.items() if name != "html"}, "template": "no_such"}
    answer = await admin.post(CAMPAIGNS, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_template")
    assert answer.json()["title"] == "There is no such template"


@pytest.mark.parametrize(
    "campaign", ["01980000-0000-7000-8000-000000000001", "autumn", "", "' OR true --", "a" * 10_000]
)
async def test_an_unknown_campaign_is_not_found(admin: Admin, campaign: str) -> None:
    """404 for what is no campaign and for what is not even an id; twice, for it claims nothing."""
    for _ in range(2):
        answer = await admin.send(campaign)
        assert (answer.status_code, answer.json()["code"]) == (404, "campaign_not_found")
    stats = await admin.http.get(
        httpx.URL(f"http://shop.test{CAMPAIGNS}/x/stats", path=f"{CAMPAIGNS}/{campaign or 'x'}/stats"),
        headers=admin.bearer(),
    )
    assert (stats.status_code, stats.json()["code"]) == (404, "campaign_not_found")


@pytest.mark.parametrize("segment", ["%00", "a%00b"])
async def test_a_nul_in_the_path_names_nothing(admin: Admin, segment: str) -> None:
    """404 at the edge: no database is asked for it."""
    answer = await admin.get(f"{CAMPAIGNS}/{segment}/stats")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("count", [20, 200])
async def test_clicks_at_once_are_one(admin: Admin, count: int) -> None:
    """By two members of staff: one 202, the others 429 that say how long to wait; each recipient is frozen once."""
    campaign = await admin.draft()
    clicks = await asyncio.gather(*(admin.send(campaign, who=(STAFF, GRACE)[n % 2]) for n in range(count)))
    assert codes(clicks) == {(202, ""): 1, (429, "duplicate_request"): count - 1}
    assert all(0 < int(click.headers["retry-after"]) <= 60 for click in clicks if click.status_code == 429)
    assert await frozen(admin, campaign) == STARTED
    later = await admin.send(campaign)
    assert (later.status_code, later.json()["code"]) == (429, "duplicate_request")


async def test_the_claim_ends_after_a_minute(admin: Admin) -> None:
    """It never outlives its sixty seconds in the cache."""
    await admin.send(await admin.draft())
    client = admin.runtime.cache.client
    (key,) = [key async for key in client.scan_iter("dedup:*")]
    assert 0 < await client.ttl(key) <= 60


async def test_a_click_after_the_claim_has_ended_freezes_nobody_again(admin: Admin) -> None:
    """61 seconds later, by the cache's clock: by either member of staff it is refused by the ledger's owner."""
    campaign = await admin.draft()
    assert (await admin.send(campaign)).status_code == 202
    client = admin.runtime.cache.client
    for who in (STAFF, GRACE):
        for key in [key async for key in client.scan_iter("dedup:*")]:
            assert await client.expireat(key, 1)
        answer = await admin.send(campaign, who=who)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_sendable")
    assert await frozen(admin, campaign) == STARTED


async def test_a_body_of_ten_megabytes_is_not_read(admin: Admin) -> None:
    """413, and nothing is stored."""
    before = await admin.others["notifications"].value("SELECT count(*) FROM campaigns")
    answer = await admin.post(CAMPAIGNS, {**DRAFT, "html": "x" * 10_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert await admin.others["notifications"].value("SELECT count(*) FROM campaigns") == before


async def test_two_campaigns_are_not_one(admin: Admin) -> None:
    """The second click is one on the same campaign."""
    campaigns = [await admin.draft() for _ in range(3)]
    clicks = await asyncio.gather(*map(admin.send, campaigns))
    assert codes(clicks) == {(202, ""): 3}
    assert [await frozen(admin, campaign) for campaign in campaigns] == [STARTED] * 3


async def test_without_valkey_the_database_lets_it_happen_once(admin: Admin) -> None:
    """Nobody is blocked at the door any more, and still one click of twenty starts it."""
    campaign = await admin.draft()
    admin.valkey.refuse()
    clicks = await asyncio.gather(*(admin.send(campaign) for _ in range(20)))
    assert codes(clicks) == {(202, ""): 1, (409, "not_sendable"): 19}
    assert await frozen(admin, campaign) == STARTED


async def test_a_valkey_that_hangs_costs_a_moment(admin: Admin) -> None:
    """Silence is treated like absence, well within the deadline."""
    campaign = await admin.draft()
    admin.valkey.hang()
    clicks = await asyncio.gather(*(admin.send(campaign) for _ in range(5)))
    assert codes(clicks) == {(202, ""): 1, (409, "not_sendable"): 4}
    assert await frozen(admin, campaign) == STARTED


async def test_a_claim_whose_reply_was_lost_is_no_duplicate(admin: Admin) -> None:
    """Valkey set the key and could not say so: the click is not taken for its own second."""
    campaign = await admin.draft()
    await admin.runtime.cache.ready()
    admin.valkey.drop_reply(b"dedup:")
    assert (await admin.send(campaign)).status_code == 202
    assert codes([await admin.send(campaign)]) in ({(429, "duplicate_request"): 1}, {(409, "not_sendable"): 1})


async def test_a_refusal_gives_the_claim_back(admin: Admin) -> None:
    """Nobody to write to is a refusal; as soon as there is somebody, the next click starts it, not in a minute."""
    notifications = admin.others["notifications"]
    campaign = await admin.draft()
    await notifications.execute("UPDATE contacts SET suppressed = true")
    for _ in range(2):
        answer = await admin.send(campaign)
        assert (answer.status_code, answer.json()["code"]) == (422, "empty_audience")
    await notifications.execute("UPDATE contacts SET suppressed = false")
    assert (await admin.send(campaign)).status_code == 202
    assert await frozen(admin, campaign) == STARTED


async def test_a_campaign_that_was_sent_is_not_sendable(admin: Admin) -> None:
    """A minute later the door is open again, and the owner says no: each time, at once."""
    campaign = await admin.draft()
    await admin.send(campaign)
    await admin.runtime.cache.client.flushall()
    assert codes([await admin.send(campaign) for _ in range(3)]) == {(409, "not_sendable"): 3}
    assert await frozen(admin, campaign) == STARTED


async def test_an_owner_that_is_away_gives_the_claim_back(admin: Admin, until: Until) -> None:
    """503 while it is away and until the connection is there again, never 429; then the next click starts it."""
    campaign = await admin.draft()
    notifications = admin.others["notifications"]
    notifications.proxy.refuse()
    for _ in range(2):
        answer = await admin.send(campaign)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert await frozen(admin, campaign) == UNTOUCHED
    notifications.proxy.forward()

    async def started() -> bool:
        answer = await admin.send(campaign)
        assert answer.status_code in {202, 503}, answer.text
        return answer.status_code == 202

    await until(started)
    assert await frozen(admin, campaign) == STARTED


async def test_an_owner_that_hangs_costs_the_deadline_and_gives_the_claim_back(admin: Admin) -> None:
    """504 that names the step. Whether the call still arrives or not, the clicks after it start it once."""
    campaign = await admin.draft()
    notifications = admin.others["notifications"]
    notifications.proxy.hang()
    answer = await admin.send(campaign, headers=SHORT)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert answer.json()["step"] == "notifications.SendCampaign"
    notifications.proxy.forward()
    again = await admin.send(campaign)
    assert (again.status_code, again.json().get("code", "")) in {(202, ""), (409, "not_sendable")}
    assert await frozen(admin, campaign) == STARTED


async def test_what_the_owner_did_but_could_not_say_is_not_done_again(admin: Admin) -> None:
    """It committed and lost the reply: 503, and the next click learns that it is under way."""
    campaign = await admin.draft()
    admin.others["notifications"].postgres.drop_reply(b"COMMIT")
    lost = await admin.send(campaign)
    assert lost.status_code == 503
    assert await frozen(admin, campaign) == STARTED
    again = await admin.send(campaign)
    assert (again.status_code, again.json()["code"]) == (409, "not_sendable")
    assert await frozen(admin, campaign) == STARTED


async def test_admins_own_database_is_not_needed_to_send(admin: Admin) -> None:
    """Without a key there is nothing to keep: the click works while admin's database is away."""
    campaign = await admin.draft()
    admin.postgres.refuse()
    assert (await admin.send(campaign)).status_code == 202
    assert await frozen(admin, campaign) == STARTED
