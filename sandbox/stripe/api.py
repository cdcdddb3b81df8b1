"""The way of every /v1 call: key, parameters, idempotency, faults, one transaction, answer."""

import asyncio
import base64
import binascii
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.stripe import faults, idempotency, ids
from sandbox.stripe.errors import (
    ApiError,
    AuthenticationFailed,
    IdempotencyKeyInUse,
    InvalidParameter,
    Json,
    RateLimited,
    ServerError,
)
from sandbox.stripe.expand import expand, wanted
from sandbox.stripe.faults import ApiFault, Fault
from sandbox.stripe.forms import Params, decode
from sandbox.stripe.idempotency import Kept
from sandbox.stripe.ledger import API_VERSION, Call, Ledger
from sandbox.stripe.operations import Operation
from sandbox.stripe.server import Hang, Reset
from sandbox.stripe.store import Store

_LARGEST_BODY = 1024 * 1024
_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}(\.[a-z_]+)?$")
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A call that was let in."""

    operation: Operation
    request_id: str
    version: str
    method: str
    url_path: str
    path: dict[str, str]
    params: Params
    key: str | None
    base_url: str

    @property
    def fingerprint(self) -> str:
        """What the idempotency key stands for."""
        return idempotency.fingerprint(self.method, self.url_path, self.params)


class Api:
    """Runs operations on the ledger."""

    def __init__(
        self,
        store: Store,
        *,
        api_key: str,
        webhooks: tuple[str, ...],
        clock: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self._store = store
        self._api_key = api_key
        self._webhooks = webhooks
        self._clock = clock
        self._committed = committed
        self._running: set[str] = set()

    def routes(self, operations: Iterable[Operation]) -> list[Route]:
        """A route for each operation."""
        return [Route(each.path, self._endpoint(each), methods=[each.method]) for each in operations]

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request_id = ids.new("req")
            try:
                incoming = await self._admit(operation, request, request_id)
                response = await self._guarded(incoming)
            except ApiError as error:
                response = error_response(error, request_id, base_url(request))
            response.headers["Stripe-Version"] = request.headers.get("stripe-version", API_VERSION)
            return response

        return endpoint

    async def _admit(self, operation: Operation, request: Request, request_id: str) -> Incoming:
        """Let a call in, or say what is wrong with it; nothing has run yet."""
        authenticate(request.headers.get("authorization"), self._api_key)
        version = request.headers.get("stripe-version", API_VERSION)
        if not _VERSION.match(version):
            raise InvalidParameter(f"Invalid Stripe API version: {version[:50]}")
        posted = request.method == "POST"
        params = decode(await _body(request) if posted else request.url.query)
        params.allow(operation.accepts)
        wanted(params)
        key = request.headers.get("idempotency-key") if posted else None
        if key is not None:
            idempotency.check(key)
        return Incoming(
            operation,
            request_id,
            version,
            request.method,
            request.url.path,
            dict(request.path_params),
            params,
            key,
            base_url(request),
        )

    async def _guarded(self, incoming: Incoming) -> Response:
        """Run the call unless its key has an answer; the key is taken while it runs."""
        key = incoming.key
        if key is not None and key in self._running:
            raise IdempotencyKeyInUse(
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {key}. Please try again later.",
                code="idempotency_key_in_use",
            )
        kept = None
        if key is not None:
            kept = idempotency.recall(self._store, key, incoming.fingerprint, self._clock())
            self._running.add(key)
        try:
            return await self._with_faults(incoming, kept)
        finally:
            self._running.discard(key or "")

    async def _with_faults(self, incoming: Incoming, kept: Kept | None) -> Response:
        with self._store.transaction():
            fault = faults.for_call(self._store, incoming.method, incoming.url_path, replay=kept is not None)
        match fault.fault if fault else None:
            case ApiFault.RATE_LIMITED:
                raise RateLimited("Too many requests hit the API too quickly.", code="rate_limit")
            case ApiFault.TIMEOUT_BEFORE_EFFECT:
                return Hang(fault.seconds if fault else 0)
            case ApiFault.CONNECTION_RESET:
                return Reset()
            case ApiFault.DELAY:
                await asyncio.sleep(fault.seconds if fault else 0)
        answer = kept or self._execute(incoming, fault)
        if fault is not None and fault.fault == ApiFault.TIMEOUT_AFTER_EFFECT:
            return Hang(fault.seconds)
        return _answer_response(incoming, answer, replayed=kept is not None)

    def _execute(self, incoming: Incoming, fault: Fault | None) -> Kept:
        """The effect, its events and the answer kept under the key: one transaction."""
        at = self._clock()
        ledger = Ledger(self._store, at, self._webhooks, incoming.request_id, incoming.key)
        call = Call(ledger, incoming.params, incoming.path, incoming.base_url)
        with self._store.transaction():
            status, body = self._run(incoming.operation, call, fault)
            answer = Kept(status, render(body), incoming.request_id)
            if incoming.key is not None:
                idempotency.keep(self._store, incoming.key, incoming.fingerprint, answer, at)
        self._committed()
        return answer

    def _run(self, operation: Operation, call: Call, fault: Fault | None) -> tuple[int, Json]:
        log_url = _log_url(call.base_url, call.ledger.request_id or "")
        self._store.mark()
        try:
            if fault is not None and fault.fault == ApiFault.ERROR_BEFORE_EFFECT:
                raise ServerError("An unknown error occurred.")
            body = expand(self._store, operation.run(call), wanted(call.params))
        except ApiError as error:
            if not error.keeps_effects:
                self._store.undo()
            if not error.stored:
                raise
            status, body = error.status, error.body(log_url)
        else:
            status = 200
        if fault is not None and fault.fault == ApiFault.ERROR_AFTER_EFFECT:
            lost = ServerError("An unknown error occurred.")
            return lost.status, lost.body(log_url)
        return status, body


def authenticate(header: str | None, api_key: str) -> None:
    """Accept the secret key as a bearer token, or as the user of basic authentication."""
    scheme, _, credentials = (header or "").partition(" ")
    given = credentials.strip() if scheme.lower() == "bearer" else _basic_user(scheme, credentials)
    if not given:
        raise AuthenticationFailed(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if not secrets.compare_digest(given.encode(), api_key.encode()):
        raise AuthenticationFailed(
            f"Invalid API Key provided: {given[:7]}{'*' * 8}{given[-4:] if len(given) > 16 else ''}"
        )


def _basic_user(scheme: str, credentials: str) -> str:
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def _body(request: Request) -> str:
    declared = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if declared != _FORM:
        raise InvalidParameter(f"Invalid request (check that your POST content type is {_FORM}).")
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > _LARGEST_BODY:
            raise InvalidParameter("Invalid request: the body is larger than 1 MiB.")
    try:
        return received.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter("Invalid request: the body is not UTF-8.") from error


def base_url(request: Request) -> str:
    """The address the call came in by, so that links lead back the same way."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _log_url(base: str, request_id: str) -> str:
    return f"{base}/#{request_id}"


def render(body: Json) -> str:
    """JSON, laid out as Stripe does."""
    return json.dumps(body, indent=2)


def error_response(error: ApiError, request_id: str, base: str) -> Response:
    """Answer an error that no key remembers."""
    headers = {"Request-Id": request_id}
    if error.status == 409:
        headers["Stripe-Should-Retry"] = "true"
    return Response(render(error.body(_log_url(base, request_id))), error.status, headers, "application/json")


def _answer_response(incoming: Incoming, answer: Kept, *, replayed: bool) -> Response:
    headers = {"Request-Id": incoming.request_id}
    if incoming.key is not None:
        headers["Idempotency-Key"] = incoming.key
        headers["Original-Request"] = answer.request_id
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if incoming.key is not None and answer.status >= 500:
        headers["Stripe-Should-Retry"] = "false"  # the same key would only bring the same answer again
    return Response(answer.body, answer.status, headers, "application/json")
