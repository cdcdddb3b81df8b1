"""The OTLP/HTTP receiver: `POST /v1/traces` on admin's own port, which the gateway does not route.

Protobuf only, gzip or not (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It leaves no spans of its own:
every export would cause another.
"""

import zlib
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from reliability.deadline import deadline_scope
from reliability.errors import Problem
from reliability.logging import get_logger
from reliability.telemetry import untraced
from services.admin.traces.otlp import batches_of
from services.admin.traces.service import TraceService

__all__ = ["MAX_BODY", "MAX_INFLATED", "receiver"]

MAX_BODY: Final = 4 * 1024 * 1024
MAX_INFLATED: Final = 16 * 1024 * 1024
_PROTOBUF: Final = "application/x-protobuf"
_GZIP: Final = 16 + zlib.MAX_WBITS
# Exporters wait five seconds for an answer, and a connection that hangs takes one more to be thrown away.
_SECONDS: Final = 3.0

_log = get_logger(__name__)


class _Refused(Exception):
    def __init__(self, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def receiver(traces: TraceService) -> Route:
    """The route. It answers every method itself, and every error as OTLP wants it."""
    return Route("/v1/traces", _Receiver(traces))


class _Receiver:
    """A class, so that Starlette hands it every method as plain ASGI."""

    def __init__(self, traces: TraceService) -> None:
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with untraced(), deadline_scope(_SECONDS):
            try:
                response = await self._accept(Request(scope, receive))
            except _Refused as refused:
                body = Status(code=refused.code, message=refused.message).SerializeToString()
                response = Response(body, refused.status, refused.headers, _PROTOBUF)
        await response(scope, receive, send)

    async def _accept(self, request: Request) -> Response:
        if request.method != "POST":
            raise _Refused(405, UNIMPLEMENTED, "Send POST.", {"Allow": "POST"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _PROTOBUF:
            raise _Refused(415, INVALID_ARGUMENT, f"Send {_PROTOBUF}.")
        batches, rejected = batches_of(_parse(await _body(request)))
        try:
            await self._traces.keep(batches)
        except Problem as problem:
            _log.warning("spans_not_stored", spans=sum(len(batch.spans) for batch in batches), code=problem.code)
            raise _Refused(503, UNAVAILABLE, "Not stored; send again.", {"Retry-After": "1"}) from problem
        answer = ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = rejected
            answer.partial_success.error_message = "Spans need a trace id, a span id and a time between 1970 and 2200."
        return Response(answer.SerializeToString(), 200, media_type=_PROTOBUF)


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise _Refused(413, RESOURCE_EXHAUSTED, f"Send {MAX_BODY} bytes at most.")
        chunks.append(chunk)
    match request.headers.get("content-encoding", "identity").strip().lower():
        case "identity":
            return b"".join(chunks)
        case "gzip":
            return _inflate(b"".join(chunks))
        case _:
            raise _Refused(415, INVALID_ARGUMENT, "Send gzip or no content encoding.")


def _inflate(packed: bytes) -> bytes:
    """Stops at the limit: a few kilobytes can hold gigabytes of zeros."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(packed, MAX_INFLATED + 1)
    except zlib.error:
        raise _Refused(400, INVALID_ARGUMENT, "The body is not gzip.") from None
    if len(plain) > MAX_INFLATED:
        raise _Refused(413, RESOURCE_EXHAUSTED, f"Send {MAX_INFLATED} bytes at most, unpacked.")
    if not stream.eof:
        raise _Refused(400, INVALID_ARGUMENT, "The gzip stream ends too early.")
    if stream.unused_data:  # a second member, say: taken in silence, its spans would be lost
        raise _Refused(400, INVALID_ARGUMENT, "Something follows the gzip stream.")
    return plain


def _parse(body: bytes) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise _Refused(400, INVALID_ARGUMENT, "The body is not an ExportTraceServiceRequest.") from None
