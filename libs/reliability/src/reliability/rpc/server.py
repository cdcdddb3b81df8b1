"""Being called: who may call what, how many at once, the caller's deadline and ids, errors as status details.

An RPC says in its proto, by a method option, which services may call it. An RPC without the option is refused
when the server starts: forgetting it must not open a door.
"""

import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from reliability import idempotency, telemetry
from reliability.bulkhead import Bulkhead, Overloaded, Priority
from reliability.context import Principal, correlation_scope, principal, request_id
from reliability.deadline import DATABASE_CAP, deadline_scope
from reliability.errors import Internal, PermissionDenied, Problem
from reliability.fingerprint import fingerprint
from reliability.logging import get_logger
from reliability.retry import PREVIOUS_ATTEMPTS, parse_attempts, previous_attempts_scope
from reliability.rpc.client import IDEMPOTENCY_KEY
from reliability.rpc.status import DETAILS, pushback, to_status
from reliability.rpc.tls import Tls
from reliability.timing import Timing

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

__all__ = ["EVERYBODY", "REPLAYED", "Edge", "build_server"]

EVERYBODY = "*"
"""Who may call, when that is every service with a certificate."""
REPLAYED = "idempotent-replayed"
"""The trailer of an answer that was given before."""
_SHORT = 200  # for people with grpcurl; the whole detail is in the status details
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # A connection shows its certificate once: after an hour it is asked to come again, and ends what it has begun.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
)
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")

_log = get_logger(__name__)
_duration = Timing("rpc.server.call.duration", "Duration of RPCs", ["rpc.method", "rpc.response.status_code"])

Behaviour = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


def build_server(
    services: Mapping[ServiceDescriptor, Callable[[grpc.aio.Server], None]],
    access: Any,
    *,
    address: str,
    tls: Tls,
    bulkhead: Bulkhead | None = None,
) -> tuple[grpc.aio.Server, health.aio.HealthServicer, int]:
    """A server for `services` (descriptor -> what adds its servicer) with health and reflection, and its port.

    A `bulkhead` limits the calls at once; the rest is told `UNAVAILABLE` and when to come back. Health is exempt.
    Raises `ValueError` for an RPC that does not say who may call it.
    """
    rules = _rules(services, access)
    server = grpc.aio.server(interceptors=[Edge(rules, bulkhead=bulkhead)], options=_OPTIONS)
    for add in services.values():
        add(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (*(service.full_name for service in services), health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    port = server.add_secure_port(address, tls.server_credentials())
    return server, checks, port


def _rules(services: Iterable[ServiceDescriptor], access: Any) -> dict[str, frozenset[str]]:
    rules: dict[str, frozenset[str]] = {}
    for service in services:
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                message = f"{method.full_name} is a stream; only unary methods are guarded"
                raise ValueError(message)
            callers = frozenset(method.GetOptions().Extensions[access].callers)
            if not callers:
                message = f"{method.full_name} does not say who may call it; add the access option to its proto"
                raise ValueError(message)
            rules[f"/{service.full_name}/{method.name}"] = callers
    return rules


class Edge(grpc.aio.ServerInterceptor):
    """What `asgi.Edge` is over HTTP, around every unary method: ids, deadline, keys, load shedding, span, errors.

    `access` says which callers each method accepts, by the name in their certificate, and refuses everybody
    elsewhere; without it nobody is asked for one, and who may call is somebody else's business. Streams pass as they
    are. Health and reflection are exempt. A method that is not `async` is refused before it runs.
    """

    def __init__(self, access: Mapping[str, frozenset[str]] | None = None, *, bulkhead: Bulkhead | None = None) -> None:
        self._access = access
        self._bulkhead = bulkhead
        self._guarded: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Called by grpc.aio for each call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None or method.startswith(_OPEN):
            return handler
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:  # another interceptor may make a new one for each call
            known = self._guarded[method] = handler, self._around(handler, method)
        return known[1]

    def _around(self, handler: "Handler", method: str) -> "Handler":
        callers = None if self._access is None else self._access.get(method, frozenset())
        behaviour = _guard(handler.unary_unary, method, callers, self._bulkhead)
        return grpc.unary_unary_rpc_method_handler(
            behaviour, handler.request_deserializer, _serializer(handler.response_serializer)
        )


class _Stored(bytes):
    """An answer that needs no more encoding."""


def _serializer(encode: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    def serialize(answer: Any) -> bytes:
        if isinstance(answer, _Stored):
            return bytes(answer)  # grpc takes no subclass
        return answer if encode is None else encode(answer)

    return serialize


def _guard(behaviour: Any, method: str, callers: frozenset[str] | None, bulkhead: Bulkhead | None) -> Behaviour:
    name = method.rpartition(".")[2]
    asynchronous = inspect.iscoroutinefunction(behaviour)  # as grpc.aio asks; anything else it runs in a thread

    def permit() -> "contextlib.AbstractAsyncContextManager[None]":
        # A service that calls has begun something of its own: before whoever has not.
        return contextlib.nullcontext() if bulkhead is None else bulkhead.permit(Priority.FIRST)

    async def guarded(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
        metadata = {key: value for key, value in (context.invocation_metadata() or ()) if isinstance(value, str)}
        request_id.set(metadata.get("x-request-id", ""))
        remaining: float | None = context.time_remaining()
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        with (
            correlation_scope(metadata.get("x-correlation-id")),
            # A caller without a deadline gets ours: grpc.aio hands none on by itself.
            deadline_scope(DATABASE_CAP if remaining is None else remaining),
            previous_attempts_scope(parse_attempts(metadata.get(PREVIOUS_ATTEMPTS))),
        ):
            try:
                with telemetry.span(name, SpanKind.SERVER, parent=metadata, rpc_system_name="grpc", rpc_method=name):
                    if not asynchronous:
                        raise TypeError("the servicer's method is not async: in a thread it would lose its context")
                    if callers is not None:
                        _admit(context, callers)
                    idempotency.current.set(_key(method, metadata, request))
                    async with permit():
                        return await _answer(behaviour, request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - every error becomes a status
                problem = _problem(error, name)
                code, details = to_status(problem)
                await context.abort(code, problem.detail[:_SHORT], ((DETAILS, details), *pushback(problem)))
            finally:
                _duration.record(time.perf_counter() - started, name, code.name)

    return guarded


async def _answer(behaviour: Any, request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
    """What the servicer answers, or what it answered to the same key before."""
    try:
        return await behaviour(request, context)
    except idempotency.Replay as replay:
        if replay.headers.get("content-type") != idempotency.MESSAGE:
            raise TypeError("the stored answer is JSON: the servicer has to make its message of it") from replay
        context.set_trailing_metadata(((REPLAYED, "true"),))
        return _Stored(replay.body)


def _key(method: str, metadata: Mapping[str, str], request: Any) -> idempotency.Key | None:
    """The caller's key, bound to this RPC and to what it asks. Raises `IdempotencyKeyInvalid`."""
    value = metadata.get(IDEMPOTENCY_KEY)
    if value is None:
        return None
    asked = request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)
    return idempotency.Key(method, idempotency.parse(value), fingerprint(method, asked))


def _admit(context: "grpc.aio.ServicerContext[Any, Any]", callers: frozenset[str]) -> None:
    names = context.auth_context().get("x509_common_name", ())
    caller = next((name.decode() for name in names), "")
    if not caller or not (caller in callers or EVERYBODY in callers):
        message = f"{caller or 'A caller without a certificate'} may not call this."
        raise PermissionDenied(message)
    principal.set(Principal(id=caller, kind="service"))


def _problem(error: Exception, name: str) -> Problem:
    if isinstance(error, Problem):
        if error.status >= 500 and not isinstance(error, Overloaded):  # counted; a line for each costs too much
            _log.error("rpc_failed", rpc=name, code=error.code, detail=error.detail)
        return error
    _log.error("rpc_failed", rpc=name, exc_info=error)
    message = "The error is recorded under the correlation id of this call."
    return Internal(message)
