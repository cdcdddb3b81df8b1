"""Traces as staff read them: the list, one flow, one trace, and what becomes of old ones."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from reliability.ids import new_id
from services.admin.traces.service import TraceService
from tests.integration.admin.conftest import MakeAdmin
from tests.integration.admin.support import TRACES, Admin, Neighbour, span, span_id_of, trace_id_of

FLOW = {"correlation.id": "flow-1"}


async def walk(admin: Admin, **query: Any) -> list[dict[str, Any]]:
    """Every item, page by page."""
    items: list[dict[str, Any]] = []
    for _ in range(50):
        answer = await admin.get(TRACES, query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        assert len(page["items"]) == query.get("limit", 20)
        query["cursor"] = page["next_cursor"]
    pytest.fail("the pages do not end")


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["root"] for item in items]


async def test_nothing_yet(admin: Admin) -> None:
    """An empty page is an answer; a trace nobody has heard of is 404."""
    assert (await admin.get(TRACES)).json() == {"items": [], "next_cursor": None}
    assert (await admin.get(TRACES, {"correlation_id": "flow-1"})).json() == {"items": [], "next_cursor": None}
    answer = await admin.get(f"{TRACES}/{'a' * 32}")
    assert (answer.status_code, answer.json()["code"]) == (404, "trace_not_found")


async def test_a_list_says_what_each_trace_was(admin: Admin) -> None:
    """Its root, whose it is, how long it took from first to last, whether any of it failed, how much there is."""
    failed: Any = span("shop", "hold", parent="checkout", at=1, lasts=4)
    failed.status.code = 2
    await admin.export(span("shop", "checkout", lasts=3), service="orders")
    await admin.export(failed, service="catalog")
    assert (await admin.get(TRACES)).json() == {
        "items": [
            {
                "trace_id": trace_id_of("shop"),
                "root": "checkout",
                "service": "orders",
                "started_at": "2026-11-01T12:00:00Z",
                "duration_ms": 5000.0,
                "status": "error",
                "span_count": 2,
            }
        ],
        "next_cursor": None,
    }


async def test_a_trace_has_the_fields_of_the_contract(admin: Admin) -> None:
    """Exactly these, the spans in the order they started."""
    await admin.export(span("shop", "job", at=2, links={"click": "earlier"}, attributes={"n": 1}))
    await admin.export(span("shop", "step", parent="job", at=2.25, lasts=0.0015))
    first, second = await admin.trace(trace_id_of("shop"))
    assert first == {
        "span_id": span_id_of("job"),
        "parent_id": None,
        "service": "orders",
        "name": "job",
        "kind": "server",
        "start": "2026-11-01T12:00:02Z",
        "duration_ms": 1000.0,
        "status": "unset",
        "attributes": {"n": 1},
        "links": [{"trace_id": trace_id_of("earlier"), "span_id": span_id_of("click")}],
        "events": [],
    }
    assert (second["parent_id"], second["start"], second["duration_ms"]) == (
        span_id_of("job"),
        "2026-11-01T12:00:02.250000Z",
        1.5,
    )


@pytest.mark.parametrize("limit", [1, 7, 20, 100])
async def test_pages_show_every_trace_once_the_newest_first(admin: Admin, limit: int) -> None:
    """Also where many began at the same instant."""
    await admin.export(*(span(f"t{n}", f"t{n}", at=n // 10) for n in range(47)))
    items = await walk(admin, limit=limit)
    assert sorted(names(items)) == sorted(f"t{n}" for n in range(47))
    keys = [(item["started_at"], item["trace_id"]) for item in items]
    assert keys == sorted(keys, reverse=True)


async def test_what_comes_in_meanwhile_moves_no_page(admin: Admin) -> None:
    """A new trace on top shifts an offset, not a cursor."""
    await admin.export(*(span(f"t{n}", f"t{n}", at=n) for n in range(6)))
    first = (await admin.get(TRACES, {"limit": 3})).json()
    await admin.export(span("new", "new", at=60))
    second = (await admin.get(TRACES, {"limit": 3, "cursor": first["next_cursor"]})).json()
    assert names(first["items"] + second["items"]) == ["t5", "t4", "t3", "t2", "t1", "t0"]
    assert second["next_cursor"] is None


async def test_one_flow_is_found_across_its_traces(admin: Admin) -> None:
    """Click, webhook and job are three traces: the flow's id finds those that carry it, links lead to the third."""
    await admin.export(
        span("click", "checkout", attributes=FLOW),
        span("click", "hold", parent="checkout", attributes=FLOW),
        # The webhook learns late whose it is: only the span that found out carries the id.
        span("webhook", "receive", at=1),
        span("job", "process", at=2, links={"receive": "webhook"}),
        span("job", "record", parent="process", at=3, attributes=FLOW),
        span("other", "browse", at=4, attributes={"correlation.id": "flow-10"}),
    )
    items = await walk(admin, correlation_id="flow-1")
    assert [(item["root"], item["span_count"]) for item in items] == [("process", 2), ("checkout", 2)]
    process, _ = await admin.trace(trace_id_of("job"))
    (receive,) = await admin.trace(process["links"][0]["trace_id"])
    assert receive["span_id"] == process["links"][0]["span_id"]
    assert await walk(admin, correlation_id="flow-1", limit=1) == items
    for stranger in ("flow", "flow-2", "FLOW-1", "flow_1", "%", "flow-1 "):
        assert await walk(admin, correlation_id=stranger) == []


async def test_a_trace_is_listed_once_in_its_flow(admin: Admin) -> None:
    """However many of its spans carry the id."""
    await admin.export(*(span("click", f"s{n}", attributes=FLOW) for n in range(30)))
    (item,) = await walk(admin, correlation_id="flow-1", limit=1)
    assert item["span_count"] == 30


@pytest.mark.parametrize(
    ("spans", "root"),
    [
        pytest.param([("checkout", "the-clients-own", 5), ("hold", "checkout", 6)], "checkout", id="outside"),
        pytest.param([("lost-child", "gone", 7), ("checkout", "", 5)], "checkout", id="missing"),
        pytest.param([("hold", "checkout", 1), ("checkout", "", 5)], "checkout", id="skewed"),
        pytest.param([("a", "b", 2), ("b", "a", 1)], "b", id="circle"),
        pytest.param([("a", "a", 1)], "a", id="itself"),
    ],
)
async def test_a_root_is_found_whatever_the_parents_say(
    admin: Admin, spans: list[tuple[str, str, float]], root: str
) -> None:
    """A span whose parent is not there is one; in a circle it is the first. Every span is still in the trace."""
    await admin.export(*(span("shop", name, parent=parent, at=at) for name, parent, at in spans))
    (item,) = await walk(admin)
    assert (item["root"], item["span_count"]) == (root, len(spans))
    found = await admin.trace(trace_id_of("shop"))
    assert {each["span_id"]: each["parent_id"] for each in found} == {
        span_id_of(name): span_id_of(parent) if parent else None for name, parent, _ in spans
    }


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": "0"}, "/limit"),
        ({"limit": "101"}, "/limit"),
        ({"limit": "-1"}, "/limit"),
        ({"limit": "ten"}, "/limit"),
        ({"limit": ""}, "/limit"),
        ({"limit": "1" * 5000}, "/limit"),
        ({"correlation_id": ""}, "/correlation_id"),
        ({"correlation_id": "x" * 129}, "/correlation_id"),
        ({"correlation_id": "a\0b"}, "/correlation_id"),
        ({"cursor": "nonsense"}, "/cursor"),
        ({"cursor": "\u00e4"}, "/cursor"),
        ({"cursor": "x" * 201}, "/cursor"),
        ({"cursor": cursor("2026-11-01T12:00:00+00:00")}, "/cursor"),
        ({"cursor": cursor(f"2026-11-01T12:00:00 {'a' * 32}")}, "/cursor"),
        ({"cursor": cursor(f"yesterday {'a' * 32}")}, "/cursor"),
        ({"cursor": cursor("2026-11-01T12:00:00+00:00 x")}, "/cursor"),
        ({"cursor": cursor(f"0001-01-01T00:00:00+14:00 {'a' * 32}")}, "/cursor"),
        ({"cursor": cursor(f"9999-12-31T23:59:59-14:00 {'a' * 32}")}, "/cursor"),
    ],
)
async def test_a_bad_query_is_refused(admin: Admin, query: Mapping[str, str], pointer: str) -> None:
    """422 with the parameter's name, also for a cursor somebody made up."""
    answer = await admin.get(TRACES, query)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("name", ["x", "A" * 32, "a" * 31, "a" * 33, "g" * 32, "%FF", "a%20b", "' OR 1=1 --"])
async def test_what_is_no_trace_id_is_not_found(admin: Admin, name: str) -> None:
    """404, whatever it is."""
    answer = await admin.get(f"{TRACES}/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "trace_not_found")


async def test_a_very_large_trace_is_cut(admin: Admin) -> None:
    """5,000 spans are shown; the list counts them all."""
    for part in range(3):
        await admin.export(*(span("shop", f"s{part}-{n}", at=part) for n in range(2000)))
    assert len(await admin.trace(trace_id_of("shop"))) == 5000
    (item,) = await walk(admin)
    assert item["span_count"] == 6000


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_while_the_database_is_away_traces_are_not_available(admin: Admin, fault: str) -> None:
    """503 or 504 within the deadline, with a word on when to come back where that is known; never 500."""
    await admin.get(TRACES)
    getattr(admin.postgres, fault)()
    for path in (TRACES, f"{TRACES}/{'a' * 32}"):
        answer = await admin.get(path, headers={"X-Envoy-Expected-Rq-Timeout-Ms": "700"})
        expected = {"refuse": (503, "unavailable"), "hang": (504, "deadline_exceeded")}[fault]
        assert (answer.status_code, answer.json()["code"]) == expected


async def test_old_traces_are_forgotten_whole(make_admin: MakeAdmin) -> None:
    """By when they were first heard of, by the schedule in the worker; a run is stored with its count."""
    admin = await make_admin(span_retention_days=2)
    await admin.export(*(span(f"t{n}", f"s{n}", attributes=FLOW) for n in range(4)))
    await admin.export(span("t0", "another"))
    await admin.execute(
        "UPDATE span_batches SET received_at = now() - interval '2 days' - interval '1 second'"
        " WHERE id IN (SELECT min(id) FROM span_batches WHERE trace_id = ANY($1) GROUP BY trace_id)",
        [trace_id_of("t0"), trace_id_of("t1")],
    )
    await admin.execute(
        "UPDATE span_batches SET received_at = now() - interval '2 days' + interval '1 hour' WHERE trace_id = $1",
        trace_id_of("t2"),
    )
    await admin.runtime.worker._plan()
    await admin.runtime.worker.run_until_idle()
    assert sorted(names(await walk(admin))) == ["s2", "s3"]
    assert await admin.value("SELECT count(*) FROM span_batches") == 2
    runs = await admin.rows(
        "SELECT job, processed, failed, finished_at IS NOT NULL AS done FROM job_runs WHERE job = 'prune_spans'"
    )
    assert runs == [{"job": "prune_spans", "processed": 2, "failed": 0, "done": True}]


async def test_more_than_a_batch_is_forgotten_in_one_run(admin: Admin) -> None:
    """It goes on until nothing old is left."""
    await admin.export(*(span(f"t{n}", f"s{n}") for n in range(1500)))
    await admin.execute("UPDATE span_batches SET received_at = now() - interval '1 year'")
    assert await TraceService(admin.runtime.database, retention_days=7).prune() == 1500
    assert await admin.value("SELECT count(*) FROM span_batches") == 0


async def placed(orders: Neighbour, flow: str, customer_id: str) -> str:
    """An order of a customer in a flow; its id."""
    return str(
        await orders.value(
            """
            WITH cart AS (INSERT INTO carts DEFAULT VALUES RETURNING id),
            placed AS (
                INSERT INTO orders (cart_id, customer_id, email, shipping_address, shipping_method, currency, subtotal,
                                    discount, shipping, tax, total, hold_expires_at, correlation_id)
                SELECT id, $1, 'a@example.com', '{"name": "A"}', 'standard', 'USD', 1000, 0, 500, 0, 1500, now(), $2
                  FROM cart RETURNING id),
            line AS (
                INSERT INTO order_lines (order_id, variant_id, sku, title, quantity, unit_price, line_total)
                SELECT id, uuidv7(), 'SKU', 'Thing', 1, 1000, 1000 FROM placed)
            SELECT id FROM placed
            """,
            customer_id,
            flow,
        )
    )


async def test_traces_are_found_by_order_and_by_customer(admin: Admin) -> None:
    """Orders says of which flows they are; what is nobody's is an empty page, and nothing else is."""
    await admin.export(span("one", "first", attributes=FLOW))
    await admin.export(span("two", "second", at=1, attributes={"correlation.id": "flow-2"}))
    await admin.export(span("three", "third", at=2, attributes={"correlation.id": "flow-3"}))
    ada, eve = new_id(), new_id()
    order = await placed(admin.others["orders"], "flow-1", ada)
    await placed(admin.others["orders"], "flow-2", ada)
    assert names(await walk(admin, order_id=order)) == ["first"]
    assert names(await walk(admin, customer_id=ada, limit=1)) == ["second", "first"]
    assert await walk(admin, customer_id=eve) == []
    assert await walk(admin, order_id=new_id()) == []


@pytest.mark.parametrize(
    "query",
    [{"order_id": "x"}, {"customer_id": ""}, {"order": "x"}, {"order_id": new_id(), "correlation_id": "flow-1"}],
)
async def test_a_filter_that_is_none_is_refused(admin: Admin, query: dict[str, str]) -> None:
    """Every trace there is would be no answer to it."""
    answer = await admin.get(TRACES, query)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_while_orders_is_away_only_its_filters_are(admin: Admin) -> None:
    """Flows are found by name all the same."""
    await admin.export(span("one", "first", attributes=FLOW))
    admin.others["orders"].proxy.refuse()
    assert (await admin.get(TRACES, {"order_id": new_id()})).status_code in {503, 504}
    assert names(await walk(admin, correlation_id="flow-1")) == ["first"]
