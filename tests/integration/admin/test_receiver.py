"""The receiver of spans: what it takes, what it refuses in the words of OTLP, and what it never keeps."""

import asyncio
import gzip
import zlib
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace import Status as SpanStatus

from reliability.context import correlation_scope
from reliability.exporting import CorrelationProcessor
from services.admin.traces.receiver import MAX_BODY, MAX_INFLATED
from tests.integration.admin.support import OTLP, PROTOBUF, TRACES, Admin, batch, span, span_id_of, trace_id_of


async def post(admin: Admin, content: Any, **headers: str) -> httpx.Response:
    """A body as it is."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await admin.http.post(OTLP, content=content, headers={"Content-Type": PROTOBUF, **names})


async def stored(admin: Admin) -> tuple[int, int]:
    """Traces and spans in the database."""
    traces = await admin.value("SELECT count(DISTINCT trace_id) FROM span_batches")
    return traces, await admin.value("SELECT count(*) FROM spans")


def refusal(answer: httpx.Response) -> tuple[int, int]:
    """The status and the code in the body, which is a google.rpc.Status with a sentence."""
    assert answer.headers["content-type"] == PROTOBUF
    status = Status.FromString(answer.content)
    assert status.message
    return answer.status_code, status.code


class _Kept(SpanExporter):
    """Where the SDK's spans end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


async def test_what_our_services_export_is_what_is_read(admin: Admin) -> None:
    """Spans of the real SDK, encoded by the real exporter, come back whole, attributes, links and events."""
    kept = _Kept()
    provider = TracerProvider(resource=Resource({"service.name": "payments-webhooks"}))
    provider.add_span_processor(CorrelationProcessor())
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("earlier") as earlier:
        pass
    attributes: dict[str, Any] = {"text": "ä", "yes": True, "count": 2**40, "ratio": 0.5, "list": ["a", "b"]}
    with (
        correlation_scope("flow-7"),
        tracer.start_as_current_span("work", kind=SpanKind.CONSUMER, links=[Link(earlier.get_span_context())]) as work,
        tracer.start_as_current_span("step", kind=SpanKind.CLIENT, attributes=attributes) as step,
    ):
        step.add_event("retry", {"attempt": 1, "wait": 0.25, "api_key": "a secret detail"})
        step.record_exception(ValueError("a secret detail"))
        step.set_status(SpanStatus(StatusCode.ERROR, "a secret detail"))
    answer = await post(admin, encode_spans(kept.spans).SerializeToString())
    assert (answer.status_code, answer.headers["content-type"]) == (200, PROTOBUF)
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")

    exported = {each.name: each for each in kept.spans}
    first, second = await admin.trace(f"{work.get_span_context().trace_id:032x}")
    assert (first["service"], first["name"], first["kind"], first["status"]) == (
        "payments-webhooks",
        "work",
        "consumer",
        "unset",
    )
    assert first["parent_id"] is None
    assert first["attributes"] == {"correlation.id": "flow-7"}
    context = earlier.get_span_context()
    assert first["links"] == [{"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}]
    assert (second["name"], second["kind"], second["status"]) == ("step", "client", "error")
    assert second["parent_id"] == first["span_id"] == f"{work.get_span_context().span_id:016x}"
    assert second["attributes"] == {"correlation.id": "flow-7", **attributes}
    lasted = (exported["step"].end_time or 0) - (exported["step"].start_time or 0)
    assert second["duration_ms"] == round(lasted / 1e6, 3)
    assert first["events"] == []
    tried, raised = second["events"]
    assert (tried["name"], tried["attributes"]) == ("retry", {"attempt": 1, "wait": 0.25})
    assert (raised["name"], raised["attributes"]["exception.type"]) == ("exception", "ValueError")
    assert 0 <= tried["after_ms"] <= raised["after_ms"] <= second["duration_ms"]
    assert "secret detail" not in str(await admin.rows("SELECT spans FROM span_batches"))


async def test_the_same_batch_twice_is_stored_once(admin: Admin) -> None:
    """An exporter that lost the answer sends again; ten at once do not get in each other's way."""
    spans = [span("shop", f"s{n}", parent="s0" if n else "") for n in range(50)]
    answers = await asyncio.gather(*(admin.export(*spans[::order]) for order in (1, -1) * 5))
    assert {answer.status_code for answer in answers} == {200}
    assert await stored(admin) == (1, 50)
    assert await admin.trace(trace_id_of("shop")) == await admin.trace(trace_id_of("shop"))


async def test_a_span_twice_in_a_batch_is_one(admin: Admin) -> None:
    """The first stays; what comes later under its id changes nothing."""
    await admin.export(span("shop", "s1"), span("shop", "s1", lasts=9))
    await admin.export(span("shop", "s1", lasts=7), service="forger")
    (only,) = await admin.trace(trace_id_of("shop"))
    assert (only["duration_ms"], only["service"]) == (1000.0, "orders")


async def test_traces_come_in_pieces(admin: Admin) -> None:
    """Each service sends its own spans, in any order; they are one trace that begins with the earliest."""
    await admin.export(span("shop", "hold", parent="checkout", at=1), service="catalog")
    await admin.export(span("shop", "checkout"), service="orders")
    found = await admin.trace(trace_id_of("shop"))
    assert [(each["service"], each["name"], each["start"]) for each in found] == [
        ("orders", "checkout", "2026-11-01T12:00:00Z"),
        ("catalog", "hold", "2026-11-01T12:00:01Z"),
    ]
    (summary,) = (await admin.get(TRACES)).json()["items"]
    assert (summary["root"], summary["started_at"], summary["span_count"]) == ("checkout", "2026-11-01T12:00:00Z", 2)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity", ""])
async def test_a_packed_body_is_unpacked(admin: Admin, encoding: str) -> None:
    """gzip, as the exporter may be told to; and no encoding."""
    body = batch(span("shop", "s1"))
    packed = gzip.compress(body) if encoding.lower() == "gzip" else body
    headers = {"Content_Encoding": encoding} if encoding else {}
    assert (await post(admin, packed, **headers)).status_code == 200
    assert await stored(admin) == (1, 1)


async def test_a_body_packed_in_parts_loses_nothing_in_silence(admin: Admin) -> None:
    """Gzip files may be put behind one another (RFC 1952, section 2.2). We read one, and say so instead of 200."""
    body = gzip.compress(batch(span("shop", "s1"))) + gzip.compress(batch(span("shop", "s2")))
    assert refusal(await post(admin, body, Content_Encoding="gzip")) == (400, INVALID_ARGUMENT)
    assert await stored(admin) == (0, 0)


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (b"\xff\xff\xff", {}, (400, INVALID_ARGUMENT)),
        (b'{"resourceSpans": []}', {}, (400, INVALID_ARGUMENT)),
        (batch(span("shop", "s1"))[:-1], {}, (400, INVALID_ARGUMENT)),
        (batch(span("shop", "abcd")).replace(b"abcd", b"\xc3\x28\xa0\xa1"), {}, (400, INVALID_ARGUMENT)),
        (b"not gzip", {"Content_Encoding": "gzip"}, (400, INVALID_ARGUMENT)),
        (b"", {"Content_Encoding": "gzip"}, (400, INVALID_ARGUMENT)),
        (gzip.compress(batch(span("shop", "s1")))[:-4], {"Content_Encoding": "gzip"}, (400, INVALID_ARGUMENT)),
        (gzip.compress(batch(span("shop", "s1"))) + b"rest", {"Content_Encoding": "gzip"}, (400, INVALID_ARGUMENT)),
        (zlib.compress(batch(span("shop", "s1"))), {"Content_Encoding": "gzip"}, (400, INVALID_ARGUMENT)),
        (b"", {"Content_Encoding": "br"}, (415, INVALID_ARGUMENT)),
        (b"{}", {"Content_Type": "application/json"}, (415, INVALID_ARGUMENT)),
        (b"", {"Content_Type": ""}, (415, INVALID_ARGUMENT)),
        (b"x" * (MAX_BODY + 1), {}, (413, RESOURCE_EXHAUSTED)),
        (gzip.compress(b"\0" * (MAX_INFLATED + 1)), {"Content_Encoding": "gzip"}, (413, RESOURCE_EXHAUSTED)),
        (gzip.compress(b"\0" * (MAX_INFLATED * 8)), {"Content_Encoding": "gzip"}, (413, RESOURCE_EXHAUSTED)),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
async def test_what_cannot_be_read_is_refused(
    admin: Admin, content: bytes, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    """Each with its status, and nothing is stored: not a part of it either."""
    assert refusal(await post(admin, content, **headers)) == expected
    assert await stored(admin) == (0, 0)


async def test_the_limit_holds_for_bodies_of_unknown_length(admin: Admin) -> None:
    """It is counted while the body comes in."""

    async def endless() -> Any:
        while True:
            yield b"\n" * 65536

    assert refusal(await post(admin, endless())) == (413, RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_is_answered(admin: Admin, method: str) -> None:
    """405 that names it."""
    answer = await admin.http.request(method, OTLP, content=b"")
    assert (refusal(answer), answer.headers["allow"]) == ((405, UNIMPLEMENTED), "POST")


async def test_nothing_to_store_is_fine(admin: Admin) -> None:
    """An empty export, and one without spans."""
    assert (await post(admin, b"")).status_code == 200
    assert (await admin.export()).status_code == 200
    assert (await post(admin, gzip.compress(b""), Content_Encoding="gzip")).status_code == 200
    assert await stored(admin) == (0, 0)


async def test_spans_that_cannot_be_used_are_counted_and_the_rest_kept(admin: Admin) -> None:
    """Without ids or from an impossible time: rejected by number, as partial success, which no exporter repeats."""
    bad = [
        span("shop", "b1", trace_id=b""),
        span("shop", "b2", trace_id=bytes(16)),
        span("shop", "b3", trace_id=b"x" * 15),
        span("shop", "b4", span_id=b""),
        span("shop", "b5", span_id=bytes(8)),
        span("shop", "b6", span_id=b"x" * 9),
        span("shop", "b7", start_time_unix_nano=0),
        span("shop", "b8", start_time_unix_nano=2**64 - 1),
        span("shop", "b9", end_time_unix_nano=2**64 - 1),
    ]
    answer = await admin.export(span("shop", "good"), *bad)
    outcome = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, outcome.rejected_spans) == (200, len(bad))
    assert outcome.error_message
    assert [each["name"] for each in await admin.trace(trace_id_of("shop"))] == ["good"]


@pytest.mark.parametrize("number", [-10, -1, 6, 2**31 - 1])
async def test_a_kind_and_a_status_of_tomorrow_are_unknown(admin: Admin, number: int) -> None:
    """Enumerations in proto3 are open: a number without a name is no reason to lose the batch."""
    exported = span("shop", "s1")
    raw = _with_enums(exported, number)
    assert (await post(admin, raw)).status_code == 200
    (only,) = await admin.trace(trace_id_of("shop"))
    assert (only["kind"], only["status"]) == ("unspecified", "unset")


def _with_enums(exported: Any, number: int) -> bytes:
    """The batch with kind and status code set to any number."""
    request = ExportTraceServiceRequest.FromString(batch(exported))
    target: Any = request.resource_spans[0].scope_spans[0].spans[0]
    target.kind = number
    target.status.code = number
    return request.SerializeToString()


async def test_a_clock_that_is_wrong_does_no_harm(admin: Admin) -> None:
    """A child before its parent, a span that ends before it begins: kept as they are, no duration below zero."""
    await admin.export(
        span("shop", "parent", at=10),
        span("shop", "child", parent="parent", at=7),
        span("shop", "backwards", parent="parent", at=11, lasts=-3),
    )
    found = await admin.trace(trace_id_of("shop"))
    assert [(each["name"], each["duration_ms"]) for each in found] == [
        ("child", 1000.0),
        ("parent", 1000.0),
        ("backwards", 0.0),
    ]
    (summary,) = (await admin.get(TRACES)).json()["items"]
    assert (summary["root"], summary["started_at"], summary["duration_ms"]) == (
        "parent",
        "2026-11-01T12:00:07Z",
        4000.0,
    )


async def test_a_parent_of_zeros_is_none(admin: Admin) -> None:
    """What some libraries send for a root."""
    await admin.export(span("shop", "s1", parent_span_id=bytes(8)), span("shop", "s2", parent_span_id=b"x"))
    assert [each["parent_id"] for each in await admin.trace(trace_id_of("shop"))] == [None, None]


async def test_a_link_to_nothing_is_left_out(admin: Admin) -> None:
    """Only what can name a span is a link."""
    exported = span("shop", "s1", links={"s0": "earlier"})
    exported.links.add(trace_id=b"x", span_id=b"y" * 1000)
    exported.links.add()
    await admin.export(exported)
    (only,) = await admin.trace(trace_id_of("shop"))
    assert only["links"] == [{"trace_id": trace_id_of("earlier"), "span_id": span_id_of("s0")}]


SECRETS: Mapping[str, Any] = {
    "http.request.header.authorization": "Bearer hunter2",
    "Authorization": ["hunter2"],
    "authorisation": "hunter2",
    "http.request.header.cookie": ["a=hunter2"],
    "set-cookie": "hunter2",
    "db.password": "hunter2",
    "user.passwd": "hunter2",
    "access_token": "hunter2",
    "REFRESH_TOKEN": "hunter2",
    "x-api-key": "hunter2",
    "apiKey": "hunter2",
    "stripe.api_key": "hunter2",
    "api key": "hunter2",
    "private_key": "hunter2",
    "client_secret": b"hunter2",
    "aws.credentials": "hunter2",
    "stripe-signature": "hunter2",
    "card.number": "hunter2",
    "card_number": 4242424242424242,
    "creditCard": "4242424242424242",
    "payment.cvc": "hunter2",
    "cvv": "hunter2",
    "session.id": "hunter2",
    "pass\0word": "hunter2",
    "x" * 300 + ".password": "hunter2",
    "request": {"headers": {"authorization": "hunter2", "host": "shop"}, "body": [{"password": "hunter2"}]},
    "url.full": "https://shop.test/api/checkout/1?token=hunter2&a=hunter2",
    "http.target": ["/a?hunter2", "/b"],
    "url.path": "/api/unsubscribe/hunter2",
    "referer": "https://shop.test/api/unsubscribe/hunter2?x=hunter2#top",
}


async def test_secrets_are_not_kept(admin: Admin) -> None:
    """By name or by place, at any depth: nothing of them is in the database, what stands beside them is."""
    await admin.export(
        span(
            "shop",
            "GET /api/unsubscribe/hunter2?token=hunter2",
            attributes={**SECRETS, "http.route": "/api/checkout/{id}", "cardinality": 3, "discarded": 1},
        )
    )
    text = str(await admin.rows("SELECT batch::text AS row FROM span_batches AS batch"))
    assert "hunter2" not in text
    assert "4242" not in text
    (only,) = await admin.trace(trace_id_of("shop"))
    assert only["name"] == "GET /api/unsubscribe/-"
    assert only["attributes"] == {
        "http.route": "/api/checkout/{id}",
        "cardinality": 3,
        "discarded": 1,
        "request": {"headers": {"host": "shop"}, "body": [{}]},
        "url.full": "https://shop.test/api/checkout/1",
        "http.target": ["/a", "/b"],
        "url.path": "/api/unsubscribe/-",
        "referer": "https://shop.test/api/unsubscribe/-#top",
    }


async def test_odd_values_are_stored(admin: Admin) -> None:
    """What JSON or PostgreSQL has no word for does not cost the batch."""
    deep: Any = "bottom"
    for _ in range(20):
        deep = [deep]
    odd: dict[str, Any] = {
        "nan": float("nan"),
        "infinite": float("-inf"),
        "large": 2**63 - 1,
        "nul": "a\0b",
        "key\0nul": 1,
        "bytes": b"\x00\xff",
        "empty": "",
        "long": "x" * 100_000,
        "emoji": "\U0001f43e",
        "deep": deep,
        "list": [1, "a", True],
    }
    exported = span("shop", "a\0b", attributes=odd)
    exported.attributes.add(key="nothing")
    await admin.export(exported, service="or\0ders")
    (only,) = await admin.trace(trace_id_of("shop"))
    assert (only["name"], only["service"]) == ("ab", "orders")
    kept = only["attributes"]
    assert kept.pop("deep") == [[[[None]]]]
    assert kept.pop("long") == "x" * 2048
    assert kept == {
        "nan": "nan",
        "infinite": "-inf",
        "large": 2**63 - 1,
        "nul": "ab",
        "keynul": 1,
        "bytes": "AP8=",
        "empty": "",
        "emoji": "\U0001f43e",
        "list": [1, "a", True],
        "nothing": None,
    }


@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_what_could_not_be_stored_is_asked_for_again(admin: Admin, fault: str) -> None:
    """503 with Retry-After before the exporter gives up; sent again, it is there once."""
    assert await stored(admin) == (0, 0)
    getattr(admin.postgres, fault)()
    async with asyncio.timeout(5):  # as long as an exporter waits
        answer = await admin.export(span("shop", "s1"))
    assert (refusal(answer), answer.headers["retry-after"]) == ((503, UNAVAILABLE), "1")
    admin.postgres.forward()
    assert (await admin.export(span("shop", "s1"))).status_code == 200
    assert await stored(admin) == (1, 1)


async def test_a_batch_is_stored_whole_or_not_at_all(admin: Admin) -> None:
    """The database confirms and its answer is lost: 503, and the repetition adds nothing."""
    await stored(admin)
    admin.postgres.drop_reply(b"INSERT INTO span_batches")
    answer = await admin.export(*(span("shop", f"s{n}") for n in range(10)))
    assert answer.status_code == 503
    assert (await admin.export(*(span("shop", f"s{n}") for n in range(10)))).status_code == 200
    assert await stored(admin) == (1, 10)


def test_the_exporters_message_is_the_one_we_read() -> None:
    """The SDK and the receiver speak of the same protobuf type."""
    message: type[Message] = type(encode_spans([]))
    assert message is ExportTraceServiceRequest
