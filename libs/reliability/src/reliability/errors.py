"""One error tree for HTTP and gRPC.

    Problem
    ├── InvalidRequest 400 ── MalformedJson, IdempotencyKeyMissing, IdempotencyKeyInvalid
    ├── Unauthenticated 401
    ├── PermissionDenied 403
    ├── NotFound 404
    ├── MethodNotAllowed 405
    ├── RequestTimeout 408
    ├── Conflict 409 ── IdempotencyInProgress, LeaseLost
    ├── PayloadTooLarge 413
    ├── UnsupportedMediaType 415
    ├── Unprocessable 422 ── ValidationFailed, IdempotencyKeyReused
    ├── TooManyRequests 429 ── RateLimited, DuplicateRequest
    ├── Internal 500
    ├── Unavailable 503
    ├── DeadlineExceeded 504
    └── RemoteProblem (what another service answered, status as it came)

Every leaf has a stable `code`, an HTTP status and a gRPC status. The HTTP form is RFC 9457, the gRPC
form is `google.rpc.Status` with `ErrorInfo` (https://google.aip.dev/193); both are made from the same object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

__all__ = [
    "Conflict",
    "ControlFlow",
    "DeadlineExceeded",
    "DuplicateRequest",
    "FieldError",
    "IdempotencyInProgress",
    "IdempotencyKeyInvalid",
    "IdempotencyKeyMissing",
    "IdempotencyKeyReused",
    "Internal",
    "InvalidRequest",
    "LeaseLost",
    "MalformedJson",
    "MethodNotAllowed",
    "NotFound",
    "PayloadTooLarge",
    "PermissionDenied",
    "Problem",
    "RateLimited",
    "RemoteProblem",
    "RequestTimeout",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unprocessable",
    "UnsupportedMediaType",
    "ValidationFailed",
]

_UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that was refused: a JSON pointer (RFC 6901) and a sentence."""

    pointer: str
    message: str


class ControlFlow(Exception):
    """Raised to leave a block early although nothing is wrong; no span counts it as an error."""


class Problem(Exception):
    """Something the caller is told about.

    `detail` is written for the caller and must hold no secret; `extensions` become members of the
    problem document. `retry_after` is in seconds.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"
    status: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.extensions = extensions

    def document(self, correlation_id: str) -> dict[str, Any]:
        """The RFC 9457 problem document. With 422 it always holds `errors`, empty when no field is to blame."""
        fields: dict[str, Any] = {"errors": []} if self.status == _UNPROCESSABLE else {}
        return {
            "type": f"urn:holdfast:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "correlation_id": correlation_id,
            **fields,
            **self.extensions,
        }


class InvalidRequest(Problem):
    """The request cannot be understood."""

    code, title, status, grpc = "invalid_request", "The request is not valid", 400, "INVALID_ARGUMENT"


class MalformedJson(InvalidRequest):
    """The body is not JSON."""

    code, title = "malformed_json", "The body is not well-formed JSON"


class IdempotencyKeyMissing(InvalidRequest):
    """The route needs an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header, section 2.7)."""

    code, title = "idempotency_key_missing", "This request needs an Idempotency-Key header"


class IdempotencyKeyInvalid(InvalidRequest):
    """The Idempotency-Key cannot be used as one."""

    code, title = "idempotency_key_invalid", "The Idempotency-Key is not 1 to 255 visible characters"


class Unauthenticated(Problem):
    """No credentials, or bad ones."""

    code, title, status, grpc = "unauthenticated", "Sign in first", 401, "UNAUTHENTICATED"


class PermissionDenied(Problem):
    """Known, but not allowed."""

    code, title, status, grpc = "permission_denied", "You may not do this", 403, "PERMISSION_DENIED"


class NotFound(Problem):
    """No such thing, or somebody else's."""

    code, title, status, grpc = "not_found", "There is nothing here", 404, "NOT_FOUND"


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    code, title, status, grpc = "method_not_allowed", "This path has no such method", 405, "UNIMPLEMENTED"


class Conflict(Problem):
    """The state of things does not allow it."""

    code, title, status, grpc = "conflict", "The current state does not allow this", 409, "ABORTED"


class IdempotencyInProgress(Conflict):
    """The first request with this key is still running (draft, section 2.6)."""

    code, title = "idempotency_in_progress", "The first request with this Idempotency-Key is still running"


class LeaseLost(Conflict):
    """Somebody else took the work over while we were at it."""

    code, title = "lease_lost", "Another attempt has taken this request over"


class PayloadTooLarge(Problem):
    """The body is over the limit."""

    code, title, status = "payload_too_large", "The body is too large", 413
    grpc = "RESOURCE_EXHAUSTED"


class UnsupportedMediaType(Problem):
    """The body is not of the kind the route reads."""

    code, title, status = "unsupported_media_type", "Send application/json", 415
    grpc = "INVALID_ARGUMENT"


class Unprocessable(Problem):
    """Understood, but it makes no sense."""

    code, title, status, grpc = "unprocessable", "The request makes no sense", 422, "INVALID_ARGUMENT"


class ValidationFailed(Unprocessable):
    """Fields that break a rule, each with its pointer."""

    code, title = "validation_failed", "Some fields are not valid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(
            "; ".join(f"{error.pointer or '/'}: {error.message}" for error in errors),
            errors=[{"pointer": error.pointer, "message": error.message} for error in errors],
        )


class IdempotencyKeyReused(Unprocessable):
    """The key belongs to another request body (draft, section 2.7)."""

    code, title = "idempotency_key_reused", "This Idempotency-Key was used for a different request"


class TooManyRequests(Problem):
    """Later, please."""

    code, title, status, grpc = "too_many_requests", "Too many requests", 429, "RESOURCE_EXHAUSTED"


class RateLimited(TooManyRequests):
    """Over a limit; `retry_after` says how long."""

    code, title = "rate_limited", "Too many requests; wait and try again"


class DuplicateRequest(TooManyRequests):
    """The same thing was asked for a moment ago."""

    code, title = "duplicate_request", "The same request is already being handled"


class RequestTimeout(Problem):
    """The request did not arrive in time: its sender is slow, or means to be."""

    code, title, status, grpc = "request_timeout", "The request took too long to arrive", 408, "DEADLINE_EXCEEDED"


class Internal(Problem):
    """An error nobody foresaw: the caller learns the correlation id and nothing else."""

    code, title, status, grpc = "internal", "Something went wrong on our side", 500, "INTERNAL"


class Unavailable(Problem):
    """A dependency is away for the moment; `retry_after` is in seconds.

    Trying again is safe where the request is idempotent.
    """

    code, title, status, grpc = "unavailable", "Not available at the moment", 503, "UNAVAILABLE"

    def __init__(self, detail: str = "", *, retry_after: float = 1.0, **extensions: Any) -> None:
        super().__init__(detail, retry_after=retry_after, **extensions)


class DeadlineExceeded(Problem):
    """The request ran out of time; `step` names where."""

    code, title, status, grpc = "deadline_exceeded", "The request ran out of time", 504, "DEADLINE_EXCEEDED"

    def __init__(self, step: str) -> None:
        super().__init__(f"Ran out of time in step {step!r}.", step=step)


class RemoteProblem(Problem):
    """A problem another service answered; its code, title and status are handed on unchanged.

    So is `retry_after`, in seconds.
    """

    def __init__(
        self,
        *,
        code: str,
        title: str,
        status: int,
        grpc: str,
        detail: str,
        retry_after: float | None,
        extensions: dict[str, Any],
    ) -> None:
        super().__init__(detail, retry_after=retry_after, **extensions)
        self.code, self.title, self.status, self.grpc = code, title, status, grpc  # type: ignore[misc]
