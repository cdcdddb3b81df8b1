"""The staff's edge with the real services behind it, each within reach of a proxy that can take it away."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from reliability.context import Principal
from reliability.runtime import Application, Runtime
from reliability.testing import FaultProxy
from services.accounts.keys.service import SigningKeys

CAMPAIGNS = "/api/admin/email-campaigns"
SEND = f"{CAMPAIGNS}/send"
DASHBOARD = "/api/admin/dashboard"
TRACES = "/api/admin/traces"
OTLP = "/v1/traces"
PROTOBUF = "application/x-protobuf"

DRAFT: Mapping[str, Any] = {
    "name": "Autumn",
    "subject": "Autumn is here",
    "html": "<p>New coats</p>",
    "audience": {"all": True},
}
STAFF = Principal(
    "staff-1", "staff", "ada@example.com", "Ada", "owner", frozenset({"campaigns", "operations", "staff"})
)
BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND = 10**9


@dataclass
class Part:
    """A service of ours; `postgres` stands between it and its database."""

    runtime: Runtime[Any]
    application: Application
    postgres: FaultProxy

    async def execute(self, statement: str, *values: object) -> str:
        async with self.runtime.database.connection() as connection:
            return str(await connection.execute(statement, *values))

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        async with self.runtime.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *values)]

    async def value(self, statement: str, *values: object) -> Any:
        async with self.runtime.database.connection() as connection:
            return await connection.fetchval(statement, *values)


@dataclass
class Neighbour(Part):
    """A service admin calls: its RPCs are served with its own certificate, `proxy` stands before them."""

    proxy: FaultProxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"


@dataclass
class Admin(Part):
    """The service under test; `valkey` stands before its cache."""

    valkey: FaultProxy
    http: httpx.AsyncClient
    signing_key: Path
    others: Mapping[str, Neighbour]

    def token(self, who: Principal = STAFF, *, lifetime: int = 900) -> str:
        """A token as accounts signs it; with a negative lifetime it has ended already."""
        return SigningKeys.load(self.signing_key, lifetime=lifetime).access_token(who)

    def bearer(self, who: Principal = STAFF) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(who)}"}

    async def get(
        self, path: str, query: Mapping[str, Any] = {}, *, who: Principal = STAFF, headers: Mapping[str, str] = {}
    ) -> httpx.Response:
        return await self.http.get(path, params=dict(query), headers={**self.bearer(who), **headers})

    async def post(
        self, path: str, body: Any, *, who: Principal = STAFF, key: str = "", headers: Mapping[str, str] = {}
    ) -> httpx.Response:
        keyed = {"Idempotency-Key": key} if key else {}
        return await self.http.post(path, json=body, headers={**self.bearer(who), **keyed, **headers})

    async def draft(self) -> str:
        """The id of a new campaign."""
        answer = await self.post(CAMPAIGNS, DRAFT)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def send(
        self, campaign: str, *, who: Principal = STAFF, key: str = "", headers: Mapping[str, str] = {}
    ) -> httpx.Response:
        """Clicks *send*."""
        return await self.post(SEND, {"campaign_id": campaign}, who=who, key=key, headers=headers)

    async def export(self, *spans: trace_pb2.Span, service: str = "orders") -> httpx.Response:
        """Sends spans as an exporter does."""
        return await self.http.post(OTLP, content=batch(*spans, service=service), headers={"Content-Type": PROTOBUF})

    async def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace."""
        answer = await self.get(f"{TRACES}/{trace_id}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["trace_id"] == trace_id
        spans: list[dict[str, Any]] = answer.json()["spans"]
        return spans


def trace_id_of(name: str) -> str:
    """A trace id that is the same for the same name."""
    return hashlib.sha256(f"trace {name}".encode()).hexdigest()[:32]


def span_id_of(name: str) -> str:
    """A span id that is the same for the same name."""
    return hashlib.sha256(f"span {name}".encode()).hexdigest()[:16]


def span(
    trace: str,
    name: str,
    *,
    parent: str = "",
    at: float = 0.0,
    lasts: float = 1.0,
    links: Mapping[str, str] | None = None,
    **fields: Any,
) -> trace_pb2.Span:
    """Span `name` of trace `trace`, `at` seconds after the beginning, linked to spans given as {name: trace}.

    What is in `fields` is set as it is; `attributes` are given as a mapping.
    """
    attributes = [pair(key, value) for key, value in fields.pop("attributes", {}).items()]
    start = int(BEGIN.timestamp()) * SECOND + int(at * SECOND)
    values: dict[str, Any] = {
        "trace_id": bytes.fromhex(trace_id_of(trace)),
        "span_id": bytes.fromhex(span_id_of(name)),
        "parent_span_id": bytes.fromhex(span_id_of(parent)) if parent else b"",
        "name": name,
        "kind": trace_pb2.Span.SPAN_KIND_SERVER,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + int(lasts * SECOND),
        **fields,
    }
    return trace_pb2.Span(
        attributes=attributes,
        links=[
            trace_pb2.Span.Link(trace_id=bytes.fromhex(trace_id_of(of)), span_id=bytes.fromhex(span_id_of(to)))
            for to, of in (links or {}).items()
        ],
        **values,
    )


def pair(key: str, value: Any) -> KeyValue:
    return KeyValue(key=key, value=any_value(value))


def any_value(value: Any) -> AnyValue:
    """A Python value as OTLP writes it."""
    result = AnyValue()
    match value:
        case bool():
            result.bool_value = value
        case int():
            result.int_value = value
        case float():
            result.double_value = value
        case str():
            result.string_value = value
        case bytes():
            result.bytes_value = value
        case list():
            result.array_value.SetInParent()
            result.array_value.values.extend(any_value(item) for item in value)
        case dict():
            result.kvlist_value.SetInParent()
            result.kvlist_value.values.extend(pair(key, item) for key, item in value.items())
    return result


def batch(*spans: trace_pb2.Span, service: str = "orders") -> bytes:
    """The body of an export."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(pair("service.name", service))
    resource.scope_spans.add().spans.extend(spans)
    return request.SerializeToString()
