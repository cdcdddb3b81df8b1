"""Idempotency-Key on what staff write: one answer per key, and a key that is good for one request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from reliability.ids import new_id
from tests.integration.admin.conftest import CONTACTS, Until
from tests.integration.admin.support import CAMPAIGNS, DRAFT, STAFF, Admin

GRACE = replace(STAFF, id="staff-2")
REPLAYED = "idempotent-replayed"


async def drafts(admin: Admin, name: str) -> int:
    return int(await admin.others["notifications"].value("SELECT count(*) FROM campaigns WHERE name = $1", name))


async def kept(admin: Admin) -> list[tuple[int | None, bool]]:
    """Each stored key as its answer's status and whether somebody works on it."""
    rows = await admin.rows("SELECT status, lease IS NOT NULL AS leased FROM idempotency_keys ORDER BY created_at")
    return [(row["status"], row["leased"]) for row in rows]


@asynccontextmanager
async def stuck(
    admin: Admin, until: Until, request: Awaitable[httpx.Response]
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """`request`, from the moment it holds its key until notifications, which hangs, is let go on."""
    notifications = admin.others["notifications"].proxy
    notifications.hang()

    async def claimed() -> bool:
        return (None, True) in await kept(admin)

    async def made() -> httpx.Response:
        return await request

    task = asyncio.create_task(made())
    try:
        await until(claimed)
        yield task
    finally:
        notifications.forward()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_repeated_send_gets_the_first_answer(admin: Admin) -> None:
    """202 again and marked as replayed, not 429: the client that lost its answer learns what happened."""
    campaign, key = await admin.draft(), new_id()
    first = await admin.send(campaign, key=key)
    again = [await admin.send(campaign, key=key) for _ in range(3)]
    assert first.status_code == 202
    assert REPLAYED not in first.headers
    assert [(a.status_code, a.json(), a.headers[REPLAYED]) for a in again] == [(202, first.json(), "true")] * 3


async def test_a_repeated_draft_is_one_campaign(admin: Admin) -> None:
    """One after the other and twenty at once: the same id or "still running", one row, later only replays."""
    name, key = f"Autumn {new_id()}", new_id()
    body = {**DRAFT, "name": name}
    answers = await asyncio.gather(*(admin.post(CAMPAIGNS, body, key=key) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_progress"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    last = await admin.post(CAMPAIGNS, body, key=key)
    assert (last.status_code, last.headers[REPLAYED]) == (201, "true")
    assert await drafts(admin, name) == 1


async def test_the_order_of_fields_does_not_make_another_request(admin: Admin) -> None:
    """The same body written otherwise is the same body."""
    key = new_id()
    first = await admin.post(CAMPAIGNS, DRAFT, key=key)
    again = await admin.post(CAMPAIGNS, dict(reversed(list(DRAFT.items()))), key=f'"{key}"')
    assert (again.status_code, again.json(), again.headers[REPLAYED]) == (201, first.json(), "true")


async def test_a_key_is_bound_to_its_body(admin: Admin) -> None:
    """Another campaign under the same key is 422 and is not sent; also while the first is still running."""
    first, second, key = await admin.draft(), await admin.draft(), new_id()
    assert (await admin.send(first, key=key)).status_code == 202
    answer = await admin.send(second, key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    stats = await admin.get(f"{CAMPAIGNS}/{second}/stats")
    assert stats.json()["status"] == "draft"


async def test_a_key_belongs_to_a_route_and_a_person(admin: Admin) -> None:
    """The same word on another route or from another member of staff is another key."""
    name, key = f"Autumn {new_id()}", new_id()
    mine = await admin.post(CAMPAIGNS, {**DRAFT, "name": name}, key=key)
    hers = await admin.post(CAMPAIGNS, {**DRAFT, "name": name}, key=key, who=GRACE)
    assert mine.json()["id"] != hers.json()["id"]
    assert REPLAYED not in hers.headers
    assert (await admin.send(mine.json()["id"], key=key)).status_code == 202
    assert await drafts(admin, name) == 2


async def test_while_the_first_runs_the_second_is_told_to_wait(admin: Admin, until: Until) -> None:
    """409 with Retry-After, 422 for another body; when the first is through, its answer is everybody's."""
    campaign, other, key = await admin.draft(), await admin.draft(), new_id()
    async with stuck(admin, until, admin.send(campaign, key=key)) as first:
        second = await admin.send(campaign, key=key)
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
        assert int(second.headers["retry-after"]) >= 1
        third = await admin.send(other, key=key)
        assert (third.status_code, third.json()["code"]) == (422, "idempotency_key_reused")
        unkeyed = await admin.send(campaign)
        assert (unkeyed.status_code, unkeyed.json()["code"]) == (429, "duplicate_request")
    assert (await first).status_code == 202
    replay = await admin.send(campaign, key=key)
    assert (replay.status_code, replay.json(), replay.headers[REPLAYED]) == (202, (await first).json(), "true")


async def test_a_refused_key_is_as_good_as_new(admin: Admin) -> None:
    """After 404, 422 and 429 nothing is kept: the corrected request may use the key, and a second 429 is no replay."""
    campaign, key = await admin.draft(), new_id()
    assert (await admin.send(new_id(), key=key)).status_code == 404
    assert (await admin.post(CAMPAIGNS, {**DRAFT, "audience": {"all": False}}, key=key)).status_code == 422
    assert await kept(admin) == []
    await admin.send(campaign)
    for _ in range(2):
        answer = await admin.send(campaign, key=key)
        assert (answer.status_code, REPLAYED in answer.headers) == (429, False)
    assert await kept(admin) == []
    assert (await admin.send(await admin.draft(), key=key)).status_code == 202


async def test_after_an_unknown_end_the_key_tells_what_happened(admin: Admin) -> None:
    """503: nobody knows. Another body may not have the key; the same request learns that it had been done."""
    campaign, other, key = await admin.draft(), await admin.draft(), new_id()
    notifications = admin.others["notifications"]
    notifications.postgres.drop_reply(b"COMMIT")
    assert (await admin.send(campaign, key=key)).status_code == 503
    assert await kept(admin) == [(None, False)]
    answer = await admin.send(other, key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    again = await admin.send(campaign, key=key)
    assert (again.status_code, again.json()) == (202, {"id": campaign, "status": "sending", "recipients": CONTACTS})
    ledger = "SELECT count(*) FROM campaign_recipients WHERE campaign_id = $1"
    assert await notifications.value(ledger, campaign) == CONTACTS


async def test_a_lost_answer_makes_no_second_draft(admin: Admin) -> None:
    """The draft was stored and its id got lost: the retry gets that id, also when admin has forgotten the key."""
    name, key = f"Autumn {new_id()}", new_id()
    body = {**DRAFT, "name": name}
    admin.others["notifications"].postgres.drop_reply(b"COMMIT")
    assert (await admin.post(CAMPAIGNS, body, key=key)).status_code == 503
    first = await admin.post(CAMPAIGNS, body, key=key)
    await admin.execute("DELETE FROM idempotency_keys")
    second = await admin.post(CAMPAIGNS, body, key=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert await drafts(admin, name) == 1


async def test_without_its_database_admin_takes_no_key(admin: Admin) -> None:
    """A key it cannot keep is 503 before anything is done; afterwards the same key works."""
    campaign, key = await admin.draft(), new_id()
    admin.postgres.refuse()
    answer = await admin.send(campaign, key=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    admin.postgres.forward()
    assert (await admin.get(f"{CAMPAIGNS}/{campaign}/stats")).json()["status"] == "draft"
    assert (await admin.send(campaign, key=key)).status_code == 202


async def test_an_answer_that_could_not_be_kept_is_still_the_answer(admin: Admin, until: Until) -> None:
    """The campaign is on its way: a database that goes away meanwhile turns 202 into nothing else."""
    campaign, key = await admin.draft(), new_id()
    async with stuck(admin, until, admin.send(campaign, key=key)) as first:
        admin.postgres.refuse()
    assert (await first).status_code == 202
    admin.postgres.forward()
    assert (await admin.send(campaign)).status_code == 429


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, '"'])
async def test_a_key_that_is_none_is_refused(admin: Admin, key: str) -> None:
    """400 unless it is 1 to 255 visible characters; a lone quotation mark is one."""
    answer = await admin.post(CAMPAIGNS, DRAFT, headers={"Idempotency-Key": key})
    expected = (201, None) if key == '"' else (400, "idempotency_key_invalid")
    assert (answer.status_code, answer.json().get("code")) == expected
