"""Which failures may be tried again: the question is whether the effect can have happened.

A classifier is a function `Exception -> Verdict`. It knows the exceptions of one library by class and answers
`PERMANENT` for everything else. None of these libraries is imported before one of its exceptions turns up, so that
whoever does not use Stripe need not have it. `classify` asks them all.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from reliability.bulkhead import Overloaded
from reliability.errors import Problem, Unavailable
from reliability.retry.backoff import parse_retry_after

if TYPE_CHECKING:
    import grpc.aio
    import httpx
    import stripe

__all__ = [
    "PERMANENT",
    "PUSHBACK",
    "PUSHED_BACK",
    "SAFE",
    "UNKNOWN",
    "Again",
    "Classifier",
    "Verdict",
    "asyncpg_error",
    "classify",
    "grpc_error",
    "httpx_error",
    "network_error",
    "problem",
    "redis_error",
    "stripe_error",
]

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""The trailer that says when to come back, in milliseconds; negative: never (gRFC A6)."""
_STATUS_DETAILS: Final = "grpc-status-details-bin"


class Again(Enum):
    """When a failed call may be made again."""

    NEVER = "never"
    ALWAYS = "always"
    """Its effect certainly did not happen."""
    IF_IDEMPOTENT = "if idempotent"
    """Nobody knows whether its effect happened."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a classifier says of a failure. `after` are the seconds the other side asked us to wait, 0 for none.

    `pushed_back`: the other side asked not to be tried again, which costs the budget as if it could have been.
    """

    again: Again
    after: float = 0.0
    pushed_back: bool = False

    def waiting(self, seconds: float) -> "Verdict":
        """The same, but not before `seconds` have passed."""
        return dataclasses.replace(self, after=seconds) if seconds > self.after else self


PERMANENT: Final = Verdict(Again.NEVER)
"""Trying again would end the same."""
SAFE: Final = Verdict(Again.ALWAYS)
"""Nothing has happened: it may be tried again, whatever it was."""
UNKNOWN: Final = Verdict(Again.IF_IDEMPOTENT)
"""It may have happened: only what may happen twice is tried again."""
PUSHED_BACK: Final = Verdict(Again.NEVER, pushed_back=True)
"""The other side asks not to be tried again, and is overloaded."""

Classifier = Callable[[Exception], Verdict]
"""Says of a failure whether to try again. It must not raise."""


def classify(error: Exception) -> Verdict:
    """The verdict of whichever classifier knows the error."""
    for package, classifier in _BY_PACKAGE.items():
        if _is_from(error, package):
            return classifier(error)
    return network_error(error)


def problem(error: Exception) -> Verdict:
    """Our own errors: only what is not available is tried again, and what it was raised from tells the rest.

    Over a lost connection the effect is unknown, over a refused one it is safe.
    """
    cause = error.__cause__
    known = classify(cause) if isinstance(cause, Exception) else PERMANENT
    if not isinstance(error, Problem) or (cause is not None and _is_from(cause, "grpc")):
        return known  # what the peer said about trying again is in the call, and it may be "do not"
    if error.code != Unavailable.code or isinstance(error, Overloaded):
        return PERMANENT  # who found our own bulkhead full has waited already
    return (UNKNOWN if known.again is Again.NEVER else known).waiting(error.retry_after or 0.0)


def network_error(error: Exception) -> Verdict:
    """The operating system's: what was refused, or had no address to go to, was never sent."""
    import socket

    match error:
        case ConnectionRefusedError() | socket.gaierror():
            return SAFE
        case ConnectionError() | TimeoutError():
            return UNKNOWN
        case _:
            return PERMANENT


def asyncpg_error(error: Exception) -> Verdict:
    """PostgreSQL's: a transaction the server undid is safe to begin again, a lost connection may have committed.

    It speaks of the statement that failed; what is tried again must be the whole transaction.
    """
    if not _is_from(error, "asyncpg"):
        return PERMANENT
    import asyncpg

    match error:
        case (
            asyncpg.SerializationError()
            | asyncpg.DeadlockDetectedError()
            | asyncpg.CannotConnectNowError()
            | asyncpg.TooManyConnectionsError()
            | asyncpg.ClientCannotConnectError()
            | asyncpg.ConnectionRejectionError()
            | asyncpg.ReadOnlySQLTransactionError()  # a failover: the address leads to a replica for the moment
            | asyncpg.IdleInTransactionSessionTimeoutError()
        ):
            return SAFE
        case asyncpg.ProtocolViolationError():
            return PERMANENT
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.StatementCompletionUnknownError()
            | asyncpg.AdminShutdownError()
            | asyncpg.CrashShutdownError()
        ):
            return UNKNOWN
        case asyncpg.InterfaceError() if "connection is closed" in str(error):
            return SAFE  # asyncpg saw it before it sent anything, a COMMIT included
        case _:
            return PERMANENT


def redis_error(error: Exception) -> Verdict:
    """Redis': refused before it ran, or lost on the way, when an `INCR` may have counted."""
    if not _is_from(error, "redis"):
        return PERMANENT
    from redis import exceptions

    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return PERMANENT  # a ConnectionError to redis-py
        case (
            exceptions.BusyLoadingError()
            | exceptions.MaxConnectionsError()
            | exceptions.ReadOnlyError()
            | exceptions.TryAgainError()
            | exceptions.ClusterDownError()
            | exceptions.WatchError()
        ):
            return SAFE
        case exceptions.ConnectionError() | exceptions.TimeoutError():
            # One class for both; only the words tell whether there ever was a connection.
            return SAFE if "connecting to " in str(error) else UNKNOWN
        case _:
            return PERMANENT


def httpx_error(error: Exception) -> Verdict:
    """httpx': what never connected is safe, what broke off is unknown.

    429 and 503 say when to come back (`Retry-After`, RFC 9110, section 10.2.3).
    """
    if not _is_from(error, "httpx"):
        return PERMANENT
    import httpx

    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return SAFE
        case httpx.TimeoutException() | httpx.NetworkError() | httpx.RemoteProtocolError():
            return UNKNOWN
        case httpx.HTTPStatusError():
            return _http_status(error.response)
        case _:
            return PERMANENT


def _http_status(response: "httpx.Response") -> Verdict:
    asked = parse_retry_after(response.headers.get("retry-after"), date=response.headers.get("date"))
    match response.status_code:
        case 429:
            return SAFE.waiting(asked)
        case 502 | 503 | 504:
            return UNKNOWN.waiting(asked)
        case _:
            return PERMANENT


def grpc_error(error: Exception) -> Verdict:
    """A failed call of grpc.aio.

    `UNAVAILABLE` is tried again; `RESOURCE_EXHAUSTED` and `ABORTED` only when the peer says when, by `RetryInfo`
    (google.rpc) or by pushback. Pushback that is negative or no number means "do not" (gRFC A6).
    """
    if not _is_from(error, "grpc"):
        return PERMANENT
    import grpc.aio

    if not isinstance(error, grpc.aio.AioRpcError):
        return PERMANENT
    asked = _asked(error)
    if asked is not None and asked < 0:
        return PUSHED_BACK
    code = error.code()
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:  # cancelled by a peer that stops
        verdict, asked = UNKNOWN, asked or 0.0
    elif code is grpc.StatusCode.ABORTED:  # an "in progress" of ours is one too
        verdict = UNKNOWN
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        verdict = SAFE
    else:
        return PERMANENT
    return PERMANENT if asked is None else verdict.waiting(asked)


def _asked(error: "grpc.aio.AioRpcError") -> float | None:
    """Seconds the peer asked for, below zero for "never"; pushback goes before `RetryInfo`."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    trailers = dict(error.trailing_metadata() or ())
    if (pushback := trailers.get(PUSHBACK)) is not None:
        return int(pushback) / 1000 if isinstance(pushback, str) and pushback.isdecimal() else -1.0
    packed = trailers.get(_STATUS_DETAILS)
    if isinstance(packed, bytes):
        for detail in Status.FromString(packed).details:
            info = RetryInfo()
            if detail.Unpack(info):
                return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None


def stripe_error(error: Exception) -> Verdict:
    """Stripe's. `Stripe-Should-Retry` decides where it is sent.

    An answer replayed under our idempotency key will be the same for a day, so that asking again is no use.
    Source: https://docs.stripe.com/error-low-level#network-errors and /api/idempotent_requests
    """
    if not _is_from(error, "stripe"):
        return PERMANENT
    import stripe

    if not isinstance(error, stripe.StripeError):
        return PERMANENT
    headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    asked = parse_retry_after(headers.get("retry-after"), date=headers.get("date"))
    if headers.get("idempotent-replayed") == "true":
        return PERMANENT
    match headers.get("stripe-should-retry"):
        case "false":
            return PERMANENT
        case "true":
            return UNKNOWN.waiting(asked)
        case _:
            return _stripe_kind(error).waiting(asked)


def _stripe_kind(error: "stripe.StripeError") -> Verdict:
    import stripe

    status = error.http_status or 0
    if isinstance(error, stripe.RateLimitError) or error.code == "lock_timeout":  # refused, as the object was busy
        return SAFE
    # A 409 without that code: the first call with this key may still be running.
    if isinstance(error, stripe.APIConnectionError) or status == 409 or status >= 500:
        return UNKNOWN
    return PERMANENT


def _is_from(error: BaseException, package: str) -> bool:
    """Whether one of the error's classes comes from `package`, which then can be imported."""
    return any(parent.__module__.partition(".")[0] == package for parent in type(error).__mro__)


_BY_PACKAGE: Final[dict[str, Classifier]] = {
    "reliability": problem,
    "asyncpg": asyncpg_error,
    "redis": redis_error,
    "httpx": httpx_error,
    "grpc": grpc_error,
    "stripe": stripe_error,
}
