"""The outermost layer of every HTTP service: correlation, deadline, load shedding, span, metrics, access log, errors.

Pure ASGI: a `BaseHTTPMiddleware` would run the handler in another context and lose the context variables.
"""

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from opentelemetry import metrics, propagate
from opentelemetry.trace import SpanKind
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reliability import telemetry
from reliability.asgi.cors import CrossOrigin
from reliability.asgi.headers import secured
from reliability.asgi.perimeter import Perimeter
from reliability.bulkhead import Bulkhead, Overloaded, Priority
from reliability.context import (
    client_address,
    correlation_id,
    correlation_scope,
    principal,
    request_id,
    sanitise_correlation_id,
)
from reliability.deadline import deadline_scope
from reliability.errors import Internal, InvalidRequest, MethodNotAllowed, NotFound, Problem
from reliability.logging import get_logger
from reliability.retry import parse_attempts, previous_attempts_scope
from reliability.timing import Timing

__all__ = ["Edge", "problem_response"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = get_logger(__name__)
_MILLISECONDS = re.compile(r"[0-9]{1,9}")
_duration = Timing(
    "http.server.request.duration",
    "Duration of HTTP server requests",
    ["http.request.method", "http.route", "http.response.status_code"],
)
_forged = metrics.get_meter("reliability").create_counter(
    "reliability.http.forged_headers", description="Headers of clients about where they come from, by name"
)
# What a client could say of where it comes from; the gateway takes it off and tells us that it was there.
_CLAIMS = {"x-forwarded-for", "forwarded", "x-real-ip", "x-client-address"}
# What else of the headers this layer reads: of the twenty that a gateway sends, the rest need not be decoded.
_READ = frozenset(
    (
        b"x-attempt",
        b"x-client-address",
        b"x-correlation-id",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-forged",
        b"x-request-id",
    )
)
_CLIENT_GONE = 499  # no answer anybody sees; what nginx logs for it
_WEBHOOK = "/webhook"
_INTERNAL = ("/livez", "/readyz", "/metrics", "/v1/traces")


def problem_response(problem: Problem) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error (RFC 9457; Retry-After in whole seconds, rounded up)."""
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(max(1, -int(-problem.retry_after // 1))).encode()))
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.status, headers, orjson.dumps(problem.document(correlation_id()), default=str)


def as_problem(error: Exception) -> Problem:
    """The problem the caller is told of; an error nobody foresaw tells nothing but its correlation id."""
    match error:
        case Problem():
            return error
        case HTTPException(status_code=404):
            message = "There is no such route."
            return NotFound(message)
        case HTTPException(status_code=405):
            return MethodNotAllowed(headers=dict(error.headers or {}))
        case HTTPException():
            return InvalidRequest(error.detail)
        case _:
            message = "The error is recorded under the correlation id of this answer."
            return Internal(message)


class Edge:
    """Wraps a Starlette application.

    `perimeter` says whom of the world outside it trusts. A `bulkhead` limits the requests at once; the rest is told
    503 and when to come back. Health and metrics are exempt, or the process would be killed for being busy; webhooks
    go first.
    """

    def __init__(
        self,
        app: App,
        *,
        request_seconds: float = 8.0,
        bulkhead: Bulkhead | None = None,
        perimeter: Perimeter | None = None,
    ) -> None:
        perimeter = perimeter or Perimeter()
        self._https = perimeter.https
        self._cross = CrossOrigin(app, perimeter.cors_origins) if perimeter.cors_origins else None
        self._app: App = self._cross or app
        self._seconds = request_seconds
        self._bulkhead = bulkhead
        self._read = _READ | {name.encode() for name in propagate.get_global_textmap().fields}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http" or scope["path"] in _INTERNAL:
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in self._read
        }
        request_id.set(sanitise_correlation_id(headers.get("x-request-id")))
        principal.set(None)
        client_address.set(headers.get("x-client-address") or (scope.get("client") or ("",))[0])
        with (
            correlation_scope(headers.get("x-correlation-id")),
            deadline_scope(self._granted(headers)),
            previous_attempts_scope(_earlier(headers)),
            telemetry.span(
                scope["method"], SpanKind.SERVER, parent=headers, http_request_method=scope["method"]
            ) as span,
        ):
            _notice(headers.get("x-forged"))
            if self._cross is not None:
                send = self._cross.telling(scope, send)
            await _Exchange(self._shed, scope, receive, send, span, https=self._https).run()

    async def _shed(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._bulkhead is None:
            await self._app(scope, receive, send)
            return
        # Whoever sends a webhook has done what it tells of, and comes back a few times only.
        webhook = scope["path"].endswith(_WEBHOOK)
        await self._bulkhead.acquire(Priority.FIRST if webhook else Priority.NORMAL)
        try:
            await self._app(scope, receive, send)
        finally:
            self._bulkhead.release()

    def _granted(self, headers: dict[str, str]) -> float:
        expected = headers.get("x-envoy-expected-rq-timeout-ms", "")
        return min(self._seconds, int(expected) / 1000) if _MILLISECONDS.fullmatch(expected) else self._seconds


def _earlier(headers: dict[str, str]) -> int:
    """The attempts before this one; `x-attempt` counts from 1, and the gateway takes it from everybody outside."""
    return max(0, parse_attempts(headers.get("x-attempt")) - 1)


def _notice(forged: str | None) -> None:
    """Counts what a client said of its address. It changes nothing, but who says it wants to be somebody else."""
    names = _CLAIMS.intersection(forged.split(",")) if forged else ()
    for name in names:
        _forged.add(1, {"header": name})
    if names:
        _log.warning("suspected_abuse", kind="forged_headers", headers=sorted(names), client=client_address.get())


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send, span: Any, *, https: bool) -> None:
        self._app, self._scope, self._receive, self._send, self._span = app, scope, receive, send, span
        self._https = https
        self._status = 0
        self._started = time.perf_counter()

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._observe)
        except ClientDisconnect:
            self._status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the edge answers every error there is
            await self._fail(error)
        finally:
            self._record()

    async def _observe(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            identified = [*message["headers"], (b"x-correlation-id", correlation_id().encode())]
            message["headers"] = secured(identified, https=self._https)
        await self._send(message)

    async def _fail(self, error: Exception) -> None:
        problem = as_problem(error)
        telemetry.mark_error(self._span, problem if isinstance(error, Problem | HTTPException) else error)
        if problem.status >= 500 and not isinstance(error, Overloaded):  # counted; a line for each costs too much
            unforeseen = None if isinstance(error, Problem) else error
            _log.error("request_failed", code=problem.code, detail=problem.detail, exc_info=unforeseen)
        if self._status:  # the answer has begun: all that is left is to cut it off
            raise error
        status, headers, body = problem_response(problem)
        headers.append((b"content-length", str(len(body)).encode()))
        await self._observe({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _record(self) -> None:
        seconds = time.perf_counter() - self._started
        route = self._scope.get("holdfast.route", "")
        self._span.set_attribute("http.response.status_code", self._status)
        method = self._scope["method"]
        if route:
            self._span.update_name(f"{method} {route}")
            self._span.set_attribute("http.route", route)
        _duration.record(seconds, method, route, self._status)
        _log.info(
            "request",
            method=method,
            path=self._scope["path"],
            status=self._status,
            ms=round(seconds * 1000, 1),
        )
