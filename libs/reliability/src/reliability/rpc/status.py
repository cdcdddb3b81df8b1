"""The same error on both sides of a gRPC call: `Problem` <-> `google.rpc.Status` with `ErrorInfo`."""

import math
from typing import Final, TypeVar

import grpc
import grpc.aio
import orjson
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from reliability.errors import DeadlineExceeded, Internal, Problem, RemoteProblem, Unavailable
from reliability.retry.classify import PUSHBACK

M = TypeVar("M", ErrorInfo, RetryInfo)

__all__ = ["DETAILS", "from_call", "pushback", "to_status"]

DETAILS: Final = "grpc-status-details-bin"
"""The trailer that carries a google.rpc.Status (gRPC, Richer error model)."""
_DOMAIN: Final = "holdfast"
# gRPC refuses trailers over 8 KiB, and base64 adds a third: what is too long must not cost the code and status.
_DETAIL_CHARACTERS: Final = 1000
_EXTENSION_BYTES: Final = 3000


def to_status(problem: Problem) -> tuple[grpc.StatusCode, bytes]:
    """The gRPC code of a problem, and the serialised `google.rpc.Status` for the trailers."""
    code = grpc.StatusCode[problem.grpc]
    extensions = orjson.dumps(problem.extensions, default=str)
    if len(extensions) > _EXTENSION_BYTES:
        extensions = b"{}"
    info = ErrorInfo(
        reason=problem.code,
        domain=_DOMAIN,
        metadata={
            "title": problem.title,
            "status": str(problem.status),
            "extensions": extensions.decode(),
        },
    )
    status = Status(code=code.value[0], message=problem.detail[:_DETAIL_CHARACTERS])
    status.details.add().Pack(info)
    if problem.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(int(problem.retry_after * 1e9))
        status.details.add().Pack(retry)
    return code, status.SerializeToString()


def pushback(problem: Problem) -> tuple[tuple[str, str], ...]:
    """The trailer that tells a gRPC client with retries of its own how long to stay away (gRFC A6)."""
    if problem.retry_after is None:
        return ()
    return ((PUSHBACK, str(math.ceil(problem.retry_after * 1000))),)


def from_call(error: grpc.aio.AioRpcError, step: str) -> Problem:
    """The problem a failed call stands for. A peer that is away becomes `Unavailable`."""
    for name, value in error.trailing_metadata() or ():
        if name == DETAILS and isinstance(value, bytes):
            status = Status.FromString(value)
            problem = _remote(error.code(), status)
            if problem is not None:
                return problem
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            message = f"{step} could not be reached; try again in a moment."
            return Unavailable(message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(step)
        case _:
            message = f"{step} failed with {error.code().name}."
            return Internal(message)


def _remote(code: grpc.StatusCode, status: Status) -> Problem | None:
    info, retry_after = None, None
    for detail in status.details:
        info = _unpack(detail, ErrorInfo()) or info
        if (retry := _unpack(detail, RetryInfo())) is not None:
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    if info is None or info.domain != _DOMAIN:
        return None
    return RemoteProblem(
        code=info.reason,
        title=info.metadata["title"],
        status=int(info.metadata["status"]),
        grpc=code.name,
        detail=status.message,
        retry_after=retry_after,
        extensions=orjson.loads(info.metadata["extensions"]),
    )


def _unpack(packed: AnyMessage, empty: M) -> M | None:
    return empty if packed.Unpack(empty) else None
