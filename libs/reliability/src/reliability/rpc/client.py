"""Calling another service: mutual TLS, the deadline and the ids go along, failures come back as problems."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import grpc
import grpc.aio
from opentelemetry.trace import SpanKind

from reliability import deadline, telemetry
from reliability.bulkhead import Bulkhead
from reliability.cancellation import being_cancelled
from reliability.context import correlation_id, request_id
from reliability.errors import Unavailable
from reliability.retry import PREVIOUS_ATTEMPTS, RetryBudget, previous_attempts, retry
from reliability.rpc.status import from_call

__all__ = ["IDEMPOTENCY_KEY", "Tls", "channel", "invoke"]

Request = TypeVar("Request")
Response = TypeVar("Response")

_OPTIONS: tuple[tuple[str, int], ...] = (
    # The default backoff grows to two minutes: a restarted peer must be found again at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_retries", 0),
)

IDEMPOTENCY_KEY: Final = "idempotency-key"
"""The metadata a client's key travels in: the HTTP header's name, as gRPC writes names."""

_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 2.0


class Tls:
    """Files of this service's identity: CA, certificate chain and key, all PEM."""

    def __init__(self, ca: Path, certificate: Path, key: Path) -> None:
        self.ca, self.certificate, self.key = ca, certificate, key

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For calling others."""
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), private_key=self.key.read_bytes(), certificate_chain=self.certificate.read_bytes()
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """For being called: a peer without a certificate of the CA is refused in the handshake."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())], self.ca.read_bytes(), require_client_auth=True
        )


def channel(address: str, tls: Tls) -> grpc.aio.Channel:
    """A channel to `host:port`. Create it in the process that uses it: channels do not survive a fork."""
    return grpc.aio.secure_channel(address, tls.channel_credentials(), options=_OPTIONS)


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
    own key. What is before the dot in `step` names the dependency, whose calls share a retry budget and a bulkhead.
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
