"""What may be repeated: the errors of each library around us."""

import subprocess
import sys

import asyncpg
import grpc
import grpc.aio
import httpx
import pytest
import stripe
from redis import exceptions as redis_errors

from libs.reliability.tests.retry.support import from_peer
from reliability.bulkhead import Overloaded
from reliability.errors import Conflict, DeadlineExceeded, Internal, Unavailable
from reliability.redis import CacheUnavailable
from reliability.retry import PERMANENT, PUSHED_BACK, SAFE, UNKNOWN, Verdict, classify


def caused(error: Exception, cause: BaseException) -> Exception:
    """`error`, as raised from `cause`."""
    error.__cause__ = cause
    return error


def answered(status: int, **headers: str) -> Exception:
    """Httpx' error for an answer."""
    request = httpx.Request("GET", "http://x.test")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, headers=named, request=request))


class Coded(stripe.StripeError):
    """An error of Stripe's with a code and a status."""

    def __init__(self, code: str | None, status: int, **headers: str) -> None:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        super().__init__("x", code=code, http_status=status, headers=named)


VERDICTS: list[tuple[Exception, Verdict]] = [
    (asyncpg.SerializationError("x"), SAFE),
    (asyncpg.DeadlockDetectedError("x"), SAFE),
    (asyncpg.CannotConnectNowError("x"), SAFE),
    (asyncpg.TooManyConnectionsError("x"), SAFE),
    (asyncpg.ReadOnlySQLTransactionError("x"), SAFE),
    (asyncpg.InterfaceError("cannot perform operation: connection is closed"), SAFE),
    (asyncpg.InterfaceError("pool is closing"), PERMANENT),
    (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), PERMANENT),
    (asyncpg.ConnectionDoesNotExistError("x"), UNKNOWN),
    (asyncpg.TransactionResolutionUnknownError("x"), UNKNOWN),
    (asyncpg.StatementCompletionUnknownError("x"), UNKNOWN),
    (asyncpg.AdminShutdownError("x"), UNKNOWN),
    (asyncpg.ProtocolViolationError("x"), PERMANENT),
    (asyncpg.UniqueViolationError("x"), PERMANENT),
    (asyncpg.QueryCanceledError("x"), PERMANENT),
    (redis_errors.ConnectionError("Error 111 connecting to 127.0.0.1:1."), SAFE),
    (redis_errors.TimeoutError("Timeout connecting to server"), SAFE),
    (redis_errors.ConnectionError("Connection closed by server."), UNKNOWN),
    (redis_errors.TimeoutError("Timeout reading from x"), UNKNOWN),
    (redis_errors.BusyLoadingError("x"), SAFE),
    (redis_errors.ReadOnlyError("x"), SAFE),
    (redis_errors.AuthenticationError("x"), PERMANENT),
    (redis_errors.ResponseError("x"), PERMANENT),
    (httpx.ConnectError("x"), SAFE),
    (httpx.ConnectTimeout("x"), SAFE),
    (httpx.PoolTimeout("x"), SAFE),
    (httpx.ReadTimeout("x"), UNKNOWN),
    (httpx.WriteError("x"), UNKNOWN),
    (httpx.RemoteProtocolError("x"), UNKNOWN),
    (httpx.UnsupportedProtocol("x"), PERMANENT),
    (answered(429, retry_after="7"), SAFE.waiting(7)),
    (answered(503, retry_after="7"), UNKNOWN.waiting(7)),
    (
        answered(503, date="Sun, 06 Nov 1994 08:49:30 GMT", retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        UNKNOWN.waiting(7),
    ),
    (answered(502), UNKNOWN),
    (answered(500), PERMANENT),
    (answered(404, retry_after="7"), PERMANENT),
    (stripe.APIConnectionError("x"), UNKNOWN),  # type: ignore[no-untyped-call]
    (stripe.RateLimitError("x", http_status=429), SAFE),
    (Coded("lock_timeout", 409), SAFE),
    (Coded(None, 409), UNKNOWN),
    (Coded("parameter_invalid", 400), PERMANENT),
    (stripe.APIError("x", http_status=503), UNKNOWN),
    (stripe.APIError("x", http_status=500, headers={"Stripe-Should-Retry": "false"}), PERMANENT),
    (stripe.APIError("x", http_status=500, headers={"Idempotent-Replayed": "true"}), PERMANENT),
    (Coded("card_declined", 402, stripe_should_retry="true", retry_after="7"), UNKNOWN.waiting(7)),
    (Coded("card_declined", 402), PERMANENT),
    (from_peer(grpc.StatusCode.UNAVAILABLE), UNKNOWN),
    (from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "7000")), UNKNOWN.waiting(7)),
    (from_peer(grpc.StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "-1")), PUSHED_BACK),
    (from_peer(grpc.StatusCode.NOT_FOUND, ("grpc-retry-pushback-ms", "soon")), PUSHED_BACK),
    (from_peer(grpc.StatusCode.RESOURCE_EXHAUSTED), PERMANENT),
    (from_peer(grpc.StatusCode.NOT_FOUND), PERMANENT),
    (grpc.aio.UsageError("x"), PERMANENT),
    (ConnectionRefusedError(), SAFE),
    (ConnectionResetError(), UNKNOWN),
    (TimeoutError(), UNKNOWN),
    (FileNotFoundError(), PERMANENT),
    (Unavailable(retry_after=2), UNKNOWN.waiting(2)),
    (caused(Unavailable(retry_after=2), asyncpg.CannotConnectNowError("x")), SAFE.waiting(2)),
    (caused(Unavailable(retry_after=2), asyncpg.ConnectionDoesNotExistError("x")), UNKNOWN.waiting(2)),
    (caused(Conflict(), asyncpg.SerializationError("x")), PERMANENT),
    (caused(CacheUnavailable("x"), redis_errors.ReadOnlyError("x")), SAFE),
    (DeadlineExceeded("x"), PERMANENT),
    (Internal(), PERMANENT),
    (Overloaded(), PERMANENT),
]


@pytest.mark.parametrize(("error", "verdict"), VERDICTS, ids=lambda value: repr(value)[:60])
def test_each_kind_of_failure_has_its_verdict(error: Exception, verdict: Verdict) -> None:
    """Safe, unknown or permanent, and how long to stay away."""
    found = classify(error)
    assert found.again is verdict.again
    assert found.after == pytest.approx(verdict.after)


def test_the_library_needs_none_of_what_it_classifies() -> None:
    """In a process where none of them can be imported, retry and classify work."""
    program = (
        "import sys\n"
        "for name in ('stripe', 'httpx', 'redis', 'asyncpg', 'grpc'): sys.modules[name] = None\n"
        "from reliability.retry import PERMANENT, SAFE, classify\n"
        "assert classify(ValueError()) == PERMANENT and classify(ConnectionRefusedError()) == SAFE\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
