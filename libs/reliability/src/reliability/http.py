"""Calling somebody over HTTP: an `httpx.AsyncClient` with a deadline, retries, a breaker and ids that go along.

    weather = HttpClient("weather", "https://api.example")
    answer = await weather.request("GET", "/today")

httpx alone gives each phase of a call five seconds and knows nothing of the request it is made for: a server that
sends a byte now and then holds it for ever, and three tries take three times as long as one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry.trace import SpanKind

from reliability import deadline, telemetry
from reliability.circuit_breaker import CircuitBreaker, Outcome, Rules, judge
from reliability.context import correlation_id, request_id
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.frugal import without
from reliability.retry import RetryBudget, previous_attempts, retry

with without("rich"):  # which only httpx's command line needs
    import httpx

__all__ = ["IDEMPOTENT", "HttpClient"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be repeated by their definition (RFC 9110, section 9.2.2)."""

_CONNECT_SECONDS: Final = 2.0
# Of a call with less time than this, running out of it says nothing about the other side.
_FAIR_SECONDS: Final = 1.0
_BUSY: Final = 429


class HttpClient:
    """One dependency. Its calls share a connection pool, a breaker and a retry budget.

    `cap` are the seconds a call may take with all its attempts, less when the request's deadline ends sooner.
    With `ids` the correlation id, the request id, the trace and the attempt number go along; leave it off where the
    other side is none of yours. What else is given goes to `httpx.AsyncClient`.
    """

    def __init__(
        self,
        name: str,
        base_url: str = "",
        *,
        cap: float = deadline.EXTERNAL_CAP,
        attempts: int = 3,
        rules: Rules | None = None,
        budget: RetryBudget | None = None,
        ids: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **options: Any,
    ) -> None:
        self.name = name
        self.breaker = CircuitBreaker(name, rules, judge=_judge)
        self._cap = cap
        self._attempts = attempts
        self._budget = budget or RetryBudget()
        self._ids = ids
        self._sleep = sleep
        self._client = httpx.AsyncClient(base_url=base_url, **options)

    async def request(self, method: str, url: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        """The answer, whatever its status; its body has been read. `options` are those of `httpx`'s `request`.

        A call that was not answered, or with 429, 502, 503 or 504, is tried again when that is safe: its method is
        idempotent, or a `key` goes along as `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), or it never
        left. `Retry-After` is waited for. A body that can be read only once needs a client with `attempts=1`.

        Raises `DeadlineExceeded` naming the step (`"<name> <method>"`), `CircuitOpen` without asking, and
        `Unavailable` when there was no answer.
        """
        step = f"{self.name} {method}"
        headers = httpx.Headers(options.pop("headers", None))
        if key is not None:
            headers["idempotency-key"] = key

        async def once() -> httpx.Response:
            return await self._attempt(method, url, step, headers, options)

        try:
            return await retry(
                once,
                idempotent=key is not None or method.upper() in IDEMPOTENT,
                attempts=self._attempts,
                seconds=self._cap,
                budget=self._budget,
                sleep=self._sleep,
            )
        except httpx.HTTPStatusError as error:
            return error.response
        except httpx.TransportError as error:
            raise Unavailable(f"{self.name} could not be reached; try again in a moment.") from error

    async def _attempt(
        self, method: str, url: str, step: str, headers: httpx.Headers, options: dict[str, Any]
    ) -> httpx.Response:
        permit = self.breaker.allow()
        granted = deadline.remaining(self._cap)
        try:
            answer = await self._send(method, url, step, headers, options)
        except DeadlineExceeded as error:
            if granted < _FAIR_SECONDS:
                permit.give_back()
            else:
                permit.failure(error)
            raise
        except BaseException as error:
            permit.failure(error)
            raise
        permit.success()
        return answer

    async def _send(
        self, method: str, url: str, step: str, headers: httpx.Headers, options: dict[str, Any]
    ) -> httpx.Response:
        with telemetry.span(step, SpanKind.CLIENT, http_request_method=method, server_address=self.name) as span:
            async with deadline.limit(self._cap, step) as left:
                answer = await self._client.request(
                    method,
                    url,
                    headers={**headers, **self._along()},
                    timeout=httpx.Timeout(left, connect=min(left, _CONNECT_SECONDS)),
                    **options,
                )
            span.set_attribute("http.response.status_code", answer.status_code)
            if answer.status_code == _BUSY or answer.status_code >= 500:
                answer.raise_for_status()
            return answer

    def _along(self) -> dict[str, str]:
        if not self._ids:
            return {}
        known = {"x-correlation-id": correlation_id(), "x-request-id": request_id.get()}
        attempt = {"x-attempt": str(previous_attempts() + 1)}
        return {name: value for name, value in known.items() if value} | telemetry.carrier() | attempt

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _judge(error: Exception) -> Outcome:
    """An answer below 500 is one; a call that never was one says nothing."""
    match error:
        case httpx.HTTPStatusError():
            return Outcome.FAILED if error.response.status_code >= 500 else Outcome.SUCCEEDED
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError() | httpx.PoolTimeout():
            return Outcome.NEUTRAL
        case httpx.TransportError():
            return Outcome.FAILED
        case httpx.HTTPError() | httpx.InvalidURL() | httpx.StreamError():
            return Outcome.NEUTRAL
        case _:
            return judge(error)
