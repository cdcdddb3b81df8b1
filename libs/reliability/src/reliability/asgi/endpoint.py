"""Routes as a table: each says who may call it, what it reads, and whether it needs an Idempotency-Key.

The checks run in one fixed order, so that every route answers a bad request the same way: 405 with `Allow`,
413, 401, 403, 415, 400 malformed JSON, 400 missing key, 422 fields. What comes after is the handler's.
A 401 names its scheme (RFC 6750, section 3), a missing key is draft-ietf-httpapi-idempotency-key-header's 400.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, assert_never

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from reliability import deadline, idempotency
from reliability.asgi.perimeter import Perimeter
from reliability.context import Principal, principal
from reliability.errors import (
    DeadlineExceeded,
    FieldError,
    IdempotencyKeyMissing,
    MalformedJson,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    Problem,
    RequestTimeout,
    Unauthenticated,
    UnsupportedMediaType,
    ValidationFailed,
)
from reliability.fingerprint import fingerprint

__all__ = ["MAX_BODY", "Access", "Answer", "Authenticate", "Call", "Endpoint", "KeyRule", "routes"]

MAX_BODY: Final = 1024 * 1024
"""Bytes of a body, unless the row of the route says otherwise: 1 MiB."""
_LENGTH: Final = re.compile(r"[0-9]+")
_DIGITS: Final = 18
# U+0000 in JSON, which has no other way to write it.
_NUL: Final = b"\\u0000"
# No body of ours is deeper than five; Python gives up at about a thousand, with an error that would be ours.
_MAX_DEPTH: Final = 64


class Access(Enum):
    """Who may call a route: anybody, whoever is signed in, staff, a sender proven by signature, a machine's token."""

    PUBLIC = "public"
    CUSTOMER = "customer"
    STAFF = "staff"
    SIGNED = "signed"
    SCHEDULER = "scheduler"


class KeyRule(Enum):
    """What a route does with an Idempotency-Key."""

    IGNORED = "ignored"
    ACCEPTED = "accepted"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers: a pydantic model, any JSON value, or nothing."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()

    def response(self) -> Response:
        """The HTTP response; every cookie is a whole `Set-Cookie` value."""
        if self.body is None:
            response = Response(status_code=self.status, headers=dict(self.headers))
        else:
            body = self.body.model_dump_json() if isinstance(self.body, BaseModel) else orjson.dumps(self.body)
            response = Response(body, self.status, dict(self.headers), "application/json")
        for cookie in self.cookies:
            response.headers.append("set-cookie", cookie)
        return response


@dataclass(slots=True)
class Call:
    """A request that passed every check. `body` is the endpoint's model, `query` its query model."""

    request: Request
    raw: bytes
    body: Any = None
    query: Any = None

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])


Authenticate = Callable[[Request], Awaitable[Principal | None]]
"""Says who sends a request, None when nobody says; raises `Unauthenticated` for a bad proof."""
Handler = Callable[[Call], Awaitable[Answer | Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route.

    `permission` is what staff need, or the scope a scheduler's token must name. A route without a `body` model reads
    the raw body itself: `accepts` then lists its media types. `produces` is what it answers with when that is not
    JSON. `answers` names the models of other statuses it succeeds with (None: nothing in the body), `problems` what
    it can refuse with beyond what follows from the rest: see `reliability.asgi.openapi`. `summary` is for people.
    """

    method: str
    path: str
    handler: Handler
    access: Access = Access.PUBLIC
    permission: str = ""
    key: KeyRule = KeyRule.ACCEPTED
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    accepts: tuple[str, ...] = ()
    produces: str = "application/json"
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    problems: tuple[type[Problem], ...] = ()
    summary: str = ""

    @property
    def unsafe(self) -> bool:
        """Whether the method may change something (RFC 9110, section 9.2.1)."""
        return self.method not in {"GET", "HEAD", "OPTIONS"}


async def _nobody(_request: Request) -> Principal | None:
    return None


def routes(
    endpoints: Iterable[Endpoint], authenticate: Authenticate | None = None, perimeter: Perimeter | None = None
) -> list[BaseRoute]:
    """Starlette routes for a table of endpoints, one per path, so that `Allow` is complete."""
    authenticate, perimeter = authenticate or _nobody, perimeter or Perimeter()
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [Route(path, _Resource(path, methods, authenticate, perimeter)) for path, methods in by_path.items()]


class _Resource:
    """All methods of one path. A class, so that Starlette hands it every method as plain ASGI."""

    def __init__(
        self, path: str, methods: dict[str, Endpoint], authenticate: Authenticate, perimeter: Perimeter
    ) -> None:
        self._path = path
        self._methods = methods
        self._authenticate = authenticate
        self._perimeter = perimeter

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        scope["holdfast.route"] = self._path
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = self._methods.get(method)
        if endpoint is None:
            allowed = ", ".join(sorted({*self._methods, *({"HEAD"} if "GET" in self._methods else ())}))
            message = f"This path answers {allowed}."
            raise MethodNotAllowed(message, headers={"Allow": allowed})
        if request.path_params and any("\0" in str(value) for value in request.path_params.values()):
            raise NotFound  # PostgreSQL's text cannot hold it, so nothing is called that
        raw = await _read(request)
        await self._authorise(request, endpoint)
        call = Call(request, raw)
        if endpoint.body is not None:
            payload = _parse(request, raw)
            key = _key(request, endpoint, lambda: payload)
            call.body = _validate(endpoint.body, payload, nul=_NUL in raw)
        else:
            key = _key(request, endpoint, lambda: hashlib.sha256(raw).hexdigest() if raw else None)
        if endpoint.query is not None:
            call.query = _validate(endpoint.query, dict(request.query_params), nul=True)
        return await _run(endpoint, call, key)

    async def _authorise(self, request: Request, endpoint: Endpoint) -> None:
        match endpoint.access:
            case Access.SIGNED:  # proven by the body, which the handler reads
                return
            case Access.SCHEDULER:
                principal.set(await self._perimeter.admit_machine(request, endpoint.permission))
                return
            case Access.CUSTOMER | Access.STAFF:
                who = await self._authenticate(request)
                if who is None:
                    raise Unauthenticated(headers={"WWW-Authenticate": "Bearer"})
                principal.set(who)
                if endpoint.access is Access.STAFF:
                    _require_staff(who, endpoint.permission)
            case Access.PUBLIC:
                pass
            case _:
                assert_never(endpoint.access)
        if endpoint.unsafe:  # whatever the cookies are good for
            self._perimeter.refuse_foreign_site(request)


def _require_staff(who: Principal, permission: str) -> None:
    """Refuses everybody but staff with the permission; an empty one is any member of staff's."""
    if who.kind != "staff":
        message = "This is for staff."
        raise PermissionDenied(message)
    if permission and permission not in who.permissions:
        message = f"This needs the permission {permission!r}."
        raise PermissionDenied(message)


async def _run(endpoint: Endpoint, call: Call, key: idempotency.Key | None) -> Response:
    idempotency.current.set(key)
    try:
        answer = await endpoint.handler(call)
    except idempotency.Replay as replay:
        headers = {**replay.headers, "Idempotent-Replayed": "true"}
        return Response(replay.body, replay.status, headers, "application/json" if replay.body else None)
    return answer.response() if isinstance(answer, Answer) else answer


async def _read(request: Request) -> bytes:
    """The body, refused as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "0")
    if _LENGTH.fullmatch(declared) and (len(declared) > _DIGITS or int(declared) > MAX_BODY):
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    more = True
    try:
        async with deadline.limit(deadline.EXTERNAL_CAP, "body"):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
                more = message.get("more_body", False)
    except DeadlineExceeded:
        raise RequestTimeout(headers={"Connection": "close"}) from None  # the rest of it may still come
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may have {MAX_BODY} bytes at most.")


def _parse(request: Request, raw: bytes) -> Any:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedMediaType
    try:
        payload = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        message = f"The body is not well-formed JSON: {error.msg} at position {error.pos}."
        raise MalformedJson(message) from None
    if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and _deeper(payload, _MAX_DEPTH):
        message = f"The body is nested more than {_MAX_DEPTH} levels deep."
        raise MalformedJson(message)
    return payload


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [item for container in level for item in _items(container) if isinstance(item, dict | list)]
    return bool(level)


def _items(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()


def _key(request: Request, endpoint: Endpoint, payload: Callable[[], Any]) -> idempotency.Key | None:
    if endpoint.key is KeyRule.IGNORED or not endpoint.unsafe:
        return None
    header = request.headers.get("idempotency-key")
    if header is None:
        if endpoint.key is KeyRule.REQUIRED:
            raise IdempotencyKeyMissing
        return None
    query = request.scope["query_string"].decode("latin-1")
    route = f"{endpoint.method} {request.scope['path']}"
    asked = f"{route}?{query}" if query else route
    return idempotency.Key(route, idempotency.parse(header), fingerprint(asked, payload()))


def _validate(model: type[BaseModel], payload: Any, *, nul: bool) -> BaseModel:
    """The model of a payload that may hold U+0000 when `nul` says so."""
    if nul and (errors := [FieldError(at, "must not contain the NUL character") for at in _nul(payload)]):
        raise ValidationFailed(errors)
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise ValidationFailed(
            [FieldError("".join(map(_step, problem["loc"])), _message(problem)) for problem in error.errors()]
        ) from None


def _message(problem: ErrorDetails) -> str:
    """What pydantic says of a field, without the names of our classes and Python's words."""
    if problem["type"] in {"model_type", "model_attributes_type"}:
        return "Input should be an object"
    return problem["msg"].removeprefix("Value error, ")


def _step(part: object) -> str:
    """One step of a JSON pointer (RFC 6901, section 3)."""
    return "/" + str(part).replace("~", "~0").replace("/", "~1")


def _nul(value: Any, pointer: str = "") -> Iterator[str]:
    """Where strings and keys hold U+0000, which PostgreSQL's text cannot store."""
    match value:
        case str():
            if "\0" in value:
                yield pointer
        case dict():
            for key, item in value.items():
                at = pointer + _step(key.replace("\0", "?"))
                yield from _nul(key, at)
                yield from _nul(item, at)
        case list():
            for index, item in enumerate(value):
                yield from _nul(item, f"{pointer}/{index}")
        case _:
            return
