"""Calling another service: mutual TLS, the deadline and the ids go along, failures come back as problems."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc.aio
from opentelemetry.trace import SpanKind

from reliability import deadline, telemetry
from reliability.bulkhead import Bulkhead
from reliability.cancellation import being_cancelled
from reliability.context import correlation_id, request_id
from reliability.errors import Unavailable
from reliability.retry import PREVIOUS_ATTEMPTS, RetryBudget, previous_attempts, retry
from reliability.rpc.channel import RenewingChannel
from reliability.rpc.status import from_call
from reliability.rpc.tls import Tls

__all__ = ["IDEMPOTENCY_KEY", "channel", "invoke"]

Request = TypeVar("Request")
Response = TypeVar("Response")

IDEMPOTENCY_KEY: Final = "idempotency-key"
"""The metadata a client's key travels in: the name of the HTTP header, as gRPC writes names.

Source: draft-ietf-httpapi-idempotency-key-header."""

_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 2.0


def channel(address: str, tls: Tls) -> grpc.aio.Channel:
    """A channel to `host:port`. Create it in the process that uses it: channels do not survive a fork."""
    return RenewingChannel(address, tls)


@dataclass(frozen=True, slots=True)
class _Dependency:
    """What all calls to one service share in this process."""

    budget: RetryBudget
    bulkhead: Bulkhead


@functools.cache
def _dependency(name: str) -> _Dependency:
    return _Dependency(RetryBudget(), Bulkhead(name))


async def invoke(
    method: Callable[..., "grpc.aio.UnaryUnaryCall[Request, Response]"],
    request: Request,
    *,
    step: str,
    cap: float = deadline.EXTERNAL_CAP,
    attempts: int = 3,
    key: str | None = None,
) -> Response:
    """Calls `method` and answers its message; `step` names the call in traces and errors, "catalog.HoldStock" say.

    `key` goes along as `idempotency-key`: the peer binds it to this RPC and this request, and answers again what it
    answered first (see `reliability.idempotency`).

    What failed in a way that may pass is tried again within the deadline: every RPC of ours is idempotent by its
    own key; `cap` are the seconds of all attempts together, unless the deadline is before that. What is before the dot
    in `step` names the dependency, whose calls share a retry budget and a bulkhead.
    Raises the `Problem` the peer answered, `Unavailable`, or `DeadlineExceeded`.
    """
    dependency = _dependency(step.partition(".")[0])

    async def once() -> Response:
        async with dependency.bulkhead.permit():
            return await _call(method, request, step, cap, key)

    return await retry(
        once,
        idempotent=True,
        step=step,
        attempts=attempts,
        base=_BACKOFF_BASE,
        cap=_BACKOFF_CAP,
        seconds=cap,
        budget=dependency.budget,
    )


async def _call(
    method: Callable[..., "grpc.aio.UnaryUnaryCall[Request, Response]"],
    request: Request,
    step: str,
    cap: float,
    key: str | None,
) -> Response:
    with telemetry.span(step, SpanKind.CLIENT, rpc_system_name="grpc", rpc_method=step):
        metadata = [
            ("x-correlation-id", correlation_id()),
            ("x-request-id", request_id.get()),
            *telemetry.carrier().items(),
        ]
        if earlier := previous_attempts():
            metadata.append((PREVIOUS_ATTEMPTS, str(earlier)))
        if key is not None:
            metadata.append((IDEMPOTENCY_KEY, key))
        try:
            return await method(request, timeout=deadline.remaining(cap), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_call(error, step) from error
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise
            # grpc.aio cancels the calls of a channel that is closed; nobody asked this task to stop.
            message = f"The connection of {step} was closed; try again in a moment."
            raise Unavailable(message) from error
