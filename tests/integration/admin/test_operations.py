"""Dead letters of every service in one list, and one purge that reaches all of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest_asyncio

from reliability.jobs import Worker
from reliability.retention import PURGE
from tests.integration.admin.conftest import Until
from tests.integration.admin.support import Admin, Part

JOBS = "/api/admin/jobs"
PARKED = """
INSERT INTO jobs (kind, payload, state, attempt, max_attempts, last_error, correlation_id, created_at, finished_at)
VALUES ($1, '{"secret": "of the payload"}', 'parked', 5, 5, 'Unavailable: gone', 'flow-1', now(),
        now() + $2 * interval '1 hour')
RETURNING id
"""
LATER = """
INSERT INTO job_schedules (name, next_run_at) VALUES ($1, now() + interval '30 minutes')
    ON CONFLICT (name) DO UPDATE SET next_run_at = excluded.next_run_at
"""
EXPIRED = """
INSERT INTO idempotency_keys (scope, key, fingerprint, expires_at)
SELECT 'test', n::text, 'f', now() - interval '1 day' FROM generate_series(1, 3) AS n
"""


async def park(part: Part, kind: str, hours: int) -> int:
    """A dead letter that was parked so many hours from now: ahead of whatever others left behind."""
    return int(await part.value(PARKED, kind, hours))


def parts(admin: Admin) -> Mapping[str, Part]:
    return {**admin.others, "admin": admin}


async def test_dead_letters_of_every_service_are_listed(admin: Admin) -> None:
    """The last parked first, page by page; what the job was to do it with stays with its owner."""
    made = []
    for hours, (name, part) in enumerate(parts(admin).items(), start=1):
        made.append(f"{name}:{await park(part, 'lost', hours)}")
    first = (await admin.get(JOBS, {"limit": "4"})).json()
    rest = (await admin.get(JOBS, {"limit": "2", "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in [*first["items"], *rest["items"]]] == made[::-1]
    assert first["degraded"] == []
    assert first["items"][0]["error"] == "Unavailable: gone"
    assert "secret" not in str(first)
    for part in parts(admin).values():
        await part.execute("DELETE FROM jobs WHERE kind = 'lost'")


async def test_dead_letters_parked_at_the_same_time_are_all_listed(admin: Admin) -> None:
    """Many go in one transaction, and services know nothing of one another: one by one, each is there once."""
    made = set()
    at = await admin.value("SELECT now() + interval '1 hour'")
    for name, part in parts(admin).items():
        for _ in range(3):
            number = await park(part, "tied", 1)
            await part.execute("UPDATE jobs SET finished_at = $2 WHERE id = $1", number, at)
            made.add(f"{name}:{number}")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in made:
        page = (await admin.get(JOBS, {"limit": "1", **cursor})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(made)
    assert set(seen) == made
    for part in parts(admin).values():
        await part.execute("DELETE FROM jobs WHERE kind = 'tied'")


async def test_a_cursor_that_is_no_place_is_refused(admin: Admin) -> None:
    """Whatever is in it."""
    for cursor in ("x", "2026-11-28T09:30:00Z", "2026-11-28T09:30:00~orders:1", "2026-11-28T09:30:00Z~orders:"):
        answer = await admin.get(JOBS, {"cursor": cursor})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cursor"), cursor


async def test_a_service_that_is_away_is_named(admin: Admin) -> None:
    """The others' dead letters are there."""
    await admin.get(JOBS)
    kept = f"orders:{await park(admin.others['orders'], 'kept', 1)}"
    admin.others["catalog"].proxy.refuse()
    found = (await admin.get(JOBS)).json()
    assert found["degraded"] == ["catalog"]
    assert kept in [item["id"] for item in found["items"]]
    await admin.others["orders"].execute("DELETE FROM jobs WHERE kind = 'kept'")


async def test_a_dead_letter_is_tried_again_once(admin: Admin) -> None:
    """Of another service and of admin's own; a second click finds none. The audit log has what came of it."""
    came_of_it = ["job.redriven", "job.redrive_not_found"]
    for name in ("orders", "admin"):
        part = parts(admin)[name]
        letter = f"{name}:{await park(part, 'again', 1)}"
        path = f"{JOBS}/{letter}/redrive"
        answer = await admin.http.post(path, headers=admin.bearer())
        assert (answer.status_code, answer.json()) == (200, {"id": letter, "state": "queued"})
        row = (await part.rows("SELECT state, attempt FROM jobs WHERE kind = 'again'"))[0]
        assert row == {"state": "queued", "attempt": 0}
        second = await admin.http.post(path, headers=admin.bearer())
        assert (second.status_code, second.json()["code"]) == (404, "job_not_found")
        rows = await admin.rows("SELECT action FROM audit_entries WHERE subject = $1 ORDER BY id", letter)
        asked = [["job.redrive_asked", action] for action in came_of_it] if name == "orders" else [came_of_it]
        assert [row["action"] for row in rows] == [action for actions in asked for action in actions]
        await part.execute("DELETE FROM jobs WHERE kind = 'again'")


async def test_a_redrive_whose_answer_is_lost_is_noted_as_asked_for(admin: Admin) -> None:
    """Nobody says that it was tried again, or that there was nothing to try."""
    orders = admin.others["orders"]
    letter = f"orders:{await park(orders, 'lost', 1)}"
    orders.proxy.refuse()
    answer = await admin.http.post(f"{JOBS}/{letter}/redrive", headers=admin.bearer())
    assert answer.status_code == 503
    rows = await admin.rows("SELECT action FROM audit_entries WHERE subject = $1", letter)
    assert [row["action"] for row in rows] == ["job.redrive_asked"]
    await orders.execute("DELETE FROM jobs WHERE kind = 'lost'")


async def test_what_is_no_dead_letter_is_not_found(admin: Admin) -> None:
    """Whatever is in the path."""
    for name in ("nonsense", "orders:", "orders:x", "nobody:1", "orders:99999999999999999999", "orders:0", "orders:²"):
        answer = await admin.http.post(f"{JOBS}/{name}/redrive", headers=admin.bearer())
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), name


@pytest_asyncio.fixture(loop_scope="session")
async def working(admin: Admin) -> AsyncIterator[Worker]:
    """Everybody's workers run; nobody's own purge is due."""
    for part in parts(admin).values():
        await part.execute(LATER, PURGE)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(part.runtime.worker.run(stop)) for part in parts(admin).values()]
    yield admin.runtime.worker
    stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


async def test_one_purge_reaches_every_service(admin: Admin, working: Worker, until: Until) -> None:
    """Expired keys are gone from every database that keeps some, today's are there; one away counts as failed."""
    keeping = [part for name, part in parts(admin).items() if name != "catalog"]
    for part in keeping:
        await part.execute(EXPIRED)
        await part.execute(
            "INSERT INTO idempotency_keys (scope, key, fingerprint, expires_at) "
            "VALUES ('test', 'today', 'f', now() + interval '1 day')"
        )

    async def reached_everybody() -> bool:
        """Not how many: a purge whose answer was lost is asked for again, and then finds nothing."""
        run = await working.trigger(PURGE, wait=30)
        assert run.finished_at is not None
        return run.failed == 0

    await until(reached_everybody)  # whose workers have all just been started, and are busy
    for part in keeping:
        left = await part.rows("SELECT key FROM idempotency_keys WHERE scope = 'test'")
        assert [row["key"] for row in left] == ["today"]
    admin.others["orders"].proxy.refuse()
    assert (await working.trigger(PURGE, wait=30)).failed == 1
