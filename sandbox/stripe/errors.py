"""Stripe's error objects.

ApiError
├── AuthenticationFailed   401  no key, or not ours
├── InvalidParameter       400  refused before anything ran: never stored under an idempotency key
├── NotFound               404  the path names nothing
├── InvalidState           400  understood, but the object's state forbids it
├── CardDeclined           402  the attempt itself is kept: the intent, the charge and their events
├── IdempotencyMismatch    400  the key was used with other parameters
├── IdempotencyKeyInUse    409  the first call with the key is still running
├── RateLimited            429
└── ServerError            500
"""

from typing import Any, ClassVar

Json = dict[str, Any]

_DOCUMENTED = "https://docs.stripe.com/error-codes#"


class ApiError(Exception):
    """An answer that is not 200. `stored`: kept under the idempotency key; `keeps_effects`: not rolled back."""

    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    stored: ClassVar[bool] = True
    keeps_effects: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.fields = fields

    def detail(self) -> Json:
        """The error as it also stands in `last_payment_error`: fields without a value are left out, as Stripe does."""
        documented = _DOCUMENTED + self.code.replace("_", "-") if self.code else None
        every = {
            "type": self.type,
            "code": self.code,
            "doc_url": documented,
            "message": self.message,
            "param": self.param,
            **self.fields,
        }
        return {name: value for name, value in every.items() if value is not None}

    def body(self, request_log_url: str) -> Json:
        """The whole answer."""
        return {"error": {**self.detail(), "request_log_url": request_log_url}}


class AuthenticationFailed(ApiError):
    """No secret key, or another one."""

    status = 401
    stored = False


class InvalidParameter(ApiError):
    """A parameter that is missing, unknown or malformed."""

    stored = False


class NotFound(ApiError):
    """The path names an object, or an endpoint, that does not exist."""

    status = 404


class InvalidState(ApiError):
    """The object exists, and does not allow this now."""


class CardDeclined(ApiError):
    """The bank, or the cardholder, said no."""

    status = 402
    type = "card_error"
    keeps_effects = True


class IdempotencyMismatch(ApiError):
    """An idempotency key came back with other parameters."""

    type = "idempotency_error"
    stored = False


class IdempotencyKeyInUse(ApiError):
    """An idempotency key came back while its first call was running."""

    status = 409
    type = "idempotency_error"
    stored = False


class RateLimited(ApiError):
    """Too many requests."""

    status = 429
    stored = False


class ServerError(ApiError):
    """Something went wrong on Stripe's side."""

    status = 500
    type = "api_error"


def missing(kind: str, object_id: str, param: str = "id") -> NotFound:
    """The path names an object that does not exist."""
    return NotFound(f"No such {kind}: '{object_id}'", code="resource_missing", param=param)


def no_such(kind: str, object_id: str, param: str) -> InvalidState:
    """A parameter names an object that does not exist: 400 where a path would be 404."""
    return InvalidState(f"No such {kind}: '{object_id}'", code="resource_missing", param=param)
