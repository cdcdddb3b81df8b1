"""A stand-in for Resend's sending API, as its reference describes it: https://resend.com/docs/api-reference.

What a key was used for is kept for 24 hours in the same transaction as the mails it sent, so that a mailbox killed at
any moment never sends a batch twice, as Resend would not.
"""

import asyncio
import base64
import binascii
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from email.utils import parseaddr
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sandbox.mailbox.faults import Fault, Faults
from sandbox.mailbox.message import CORRELATION_HEADER, Envelope, compose
from sandbox.mailbox.store import Kept, Received, Store

__all__ = ["KEY_SECONDS", "resend_routes"]

KEY_SECONDS: Final = 24 * 3600.0
_MOST_IN_A_BATCH: Final = 100
_MOST_RECIPIENTS: Final = 50
_LONGEST_KEY: Final = 256
_ORDERS: Final = {
    Fault.HTTP_403: (403, "invalid_api_key", "API key is invalid"),
    Fault.HTTP_429: (429, "rate_limit_exceeded", "Too many requests. Please limit the number of requests per second."),
    Fault.HTTP_500: (500, "internal_server_error", "An unexpected error occurred."),
}


class _Attachment(BaseModel):
    content: str
    filename: str
    content_type: str = "application/octet-stream"


class _Mail(BaseModel):
    """The body of `POST /emails`."""

    model_config = ConfigDict(populate_by_name=True)

    sender: str = Field(alias="from")
    to: Annotated[list[str], Field(min_length=1, max_length=_MOST_RECIPIENTS)] | str
    subject: str
    html: str = ""
    text: str = ""
    reply_to: list[str] | str | None = None
    headers: dict[str, str] = {}
    attachments: list[_Attachment] = []

    @property
    def recipients(self) -> list[str]:
        return [self.to] if isinstance(self.to, str) else self.to

    @property
    def addresses(self) -> list[str]:
        return [parseaddr(value)[1] for value in self.recipients]


class _Problem(Exception):
    def __init__(self, status: int, name: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.name, self.headers = status, name, headers

    def response(self) -> Response:
        body = {"statusCode": self.status, "name": self.name, "message": str(self)}
        return Response(orjson.dumps(body), self.status, self.headers, "application/json")


class _Cut(Response):
    """Ends the connection in the middle of the answer."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def resend_routes(store: Store, faults: Faults, *, requests_per_second: int) -> list[BaseRoute]:
    """`POST /emails` and `POST /emails/batch`."""
    api = _Api(store, faults, requests_per_second)
    return [
        Route("/emails", api.guarded(api.one), methods=["POST"]),
        Route("/emails/batch", api.guarded(api.batch), methods=["POST"]),
    ]


class _Api:
    def __init__(self, store: Store, faults: Faults, requests_per_second: int) -> None:
        self._store, self._faults = store, faults
        self._limit = requests_per_second
        self._second, self._count = 0, 0
        self._working: set[str] = set()

    def guarded(self, endpoint: Callable[[Request, bytes], Awaitable[Response]]) -> Callable[[Request], Awaitable[Any]]:
        """What holds for every request: the key to the API, the limit, the form of errors."""

        async def answer(request: Request) -> Response:
            try:
                self._check_key(request)
                told = self._count_request()
                response = await endpoint(request, await request.body())
                response.headers.update(told)
                return response
            except _Problem as problem:
                return problem.response()

        return answer

    async def one(self, request: Request, raw: bytes) -> Response:
        mail = _mail(_json(raw))
        self._ordered_before(mail.addresses)
        if self._faults.take(mail.addresses, Fault.HTTP_422):
            raise _Problem(422, "validation_error", "Invalid `to` field.")
        return await self._once(request, raw, [mail], lambda ids: {"id": ids[0]})

    async def batch(self, request: Request, raw: bytes) -> Response:
        entries = _json(raw)
        if not isinstance(entries, list) or not 1 <= len(entries) <= _MOST_IN_A_BATCH:
            raise _Problem(422, "validation_error", f"A batch has 1 to {_MOST_IN_A_BATCH} emails.")
        permissive = request.headers.get("x-batch-validation", "strict") == "permissive"
        good: list[_Mail] = []
        errors: list[dict[str, Any]] = []
        for index, entry in enumerate(entries):
            try:
                good.append(self._valid_in_batch(entry))
            except _Problem as problem:
                if not permissive:
                    raise
                errors.append({"index": index, "message": str(problem)})
        self._ordered_before([address for mail in good for address in mail.addresses])

        def body(ids: Sequence[str]) -> dict[str, Any]:
            return {"data": [{"id": id_} for id_ in ids], **({"errors": errors} if permissive else {})}

        return await self._once(request, raw, good, body)

    def _valid_in_batch(self, entry: Any) -> _Mail:
        mail = _mail(entry)
        if mail.attachments:
            raise _Problem(422, "validation_error", "`attachments` are not supported in a batch.")
        if self._faults.take(mail.addresses, Fault.HTTP_422):
            raise _Problem(422, "validation_error", "Invalid `to` field.")
        return mail

    async def _once(
        self, request: Request, raw: bytes, mails: Sequence[_Mail], body: Callable[[Sequence[str]], dict[str, Any]]
    ) -> Response:
        """Sends unless the key was used in the last day; then the first answer counts."""
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
            raise _Problem(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        name = f"{request.url.path} {key}"
        fingerprint = hashlib.sha256(raw).hexdigest()
        if key is not None:
            if name in self._working:
                reason = "Same idempotency key used while original request is still in progress."
                raise _Problem(409, "concurrent_idempotent_requests", reason)
            if kept := self._store.kept(name, time.time() - KEY_SECONDS):
                return _replay(kept, fingerprint)
        self._working.add(name)
        try:
            return await self._send(mails, body, name if key is not None else "", fingerprint)
        finally:
            self._working.discard(name)

    async def _send(
        self,
        mails: Sequence[_Mail],
        body: Callable[[Sequence[str]], dict[str, Any]],
        name: str,
        fingerprint: str,
    ) -> Response:
        addresses = [address for mail in mails for address in mail.addresses]
        ids = [str(uuid.uuid4()) for _ in mails]
        answer = orjson.dumps(body(ids))
        kept = Kept(name, fingerprint, answer, time.time()) if name else None
        self._store.add_all([_received(mail) for mail in mails], kept)
        if self._faults.take(addresses, Fault.DROP_AFTER_DATA):
            return _Cut()
        if order := self._faults.take(addresses, Fault.SLOW):
            await asyncio.sleep(order.seconds)
        return Response(answer, 200, media_type="application/json")

    def _ordered_before(self, addresses: list[str]) -> None:
        """Faults that strike before anything is accepted."""
        order = self._faults.take(addresses, *_ORDERS)
        if order is not None:
            status, name, message = _ORDERS[order.fault]
            raise _Problem(status, name, message, **({"retry-after": "1"} if status == 429 else {}))

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise _Problem(401, "missing_api_key", "Missing API key in the authorization header.")
        if not key.startswith("re_"):
            raise _Problem(403, "invalid_api_key", "API key is invalid")

    def _count_request(self) -> dict[str, str]:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        told = {"ratelimit-limit": str(self._limit), "ratelimit-reset": "1"}
        told["ratelimit-remaining"] = str(max(0, self._limit - self._count))
        if self._count > self._limit:
            reason = f"Too many requests. You can only make {self._limit} requests per second."
            raise _Problem(429, "rate_limit_exceeded", reason, **{**told, "retry-after": "1"})
        return told


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _Problem(400, "validation_error", "The body is not JSON.") from None


def _mail(entry: Any) -> _Mail:
    try:
        mail = _Mail.model_validate(entry)
    except ValidationError as error:
        missing = [str(problem["loc"][0]) for problem in error.errors() if problem["type"] == "missing"]
        if missing:
            raise _Problem(422, "missing_required_field", f"Missing `{missing[0]}` field.") from None
        raise _Problem(422, "validation_error", f"Invalid `{error.errors()[0]['loc'][0]}` field.") from None
    if any(ord(character) < 32 for value in (mail.subject, *mail.headers.values()) for character in value):
        raise _Problem(422, "validation_error", "Headers must be one line.")
    if not (mail.html or mail.text):
        raise _Problem(422, "missing_required_field", "Missing `html` or `text` field.")
    for field, values in (("from", [mail.sender]), ("to", mail.recipients)):
        for value in values:
            if "@" not in parseaddr(value)[1] or any(ord(character) < 32 for character in value):
                raise _Problem(
                    422,
                    "validation_error",
                    f"Invalid `{field}` field. The email address needs to follow "
                    "the `email@example.com` or `Name <email@example.com>` format.",
                )
    return mail


def _replay(kept: Kept, fingerprint: str) -> Response:
    if kept.fingerprint != fingerprint:
        reason = "Same idempotency key used with a different request payload."
        raise _Problem(409, "invalid_idempotent_request", reason)
    return Response(kept.answer, 200, media_type="application/json")


def _received(mail: _Mail) -> Received:
    """The mail as it would arrive. One with attachments is made at once, to find out whether they can be."""
    headers = {name.lower(): value for name, value in mail.headers.items()}
    correlation_id = headers.get(CORRELATION_HEADER.lower(), "")
    envelope = Envelope.new(parseaddr(mail.sender)[1], mail.addresses, mail.subject, correlation_id)
    entry = {
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "headers": mail.headers,
        "text": mail.text,
        "html": mail.html,
    }
    if not mail.attachments:
        return Received(envelope, entry=entry)
    return Received(envelope, compose(entry, [_attached(attachment) for attachment in mail.attachments]))


def _attached(attachment: _Attachment) -> tuple[str, str, bytes]:
    try:
        content = base64.b64decode(attachment.content, validate=True)
    except binascii.Error:
        raise _Problem(422, "invalid_attachment", "Attachment `content` is not base64.") from None
    return attachment.filename, attachment.content_type, content
