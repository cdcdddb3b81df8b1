"""The gateway's promises, on a real Envoy with one small server behind each cluster."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reliability.asgi import SECURITY_HEADERS
from services.gateway.render import InvalidEnvironment, render

HOST = "127.0.0.1"
LIMIT = 1_048_576
PLACEHOLDERS = {
    "catalog": "CATALOG",
    "orders": "ORDERS",
    "payments-webhooks": "PAYMENTS",
    "notifications": "NOTIFICATIONS",
    "accounts": "ACCOUNTS",
    "admin": "ADMIN",
}
OWNERS = {
    "accounts": [
        "/api/auth/signup",
        "/api/auth/password/forgot",
        "/api/auth/oauth/acme/callback?code=1&state=2",
        "/api/auth/sessions/1",
        "/api/me",
        "/api/me/export",
        "/api/me/addresses/1/default",
        "/.well-known/jwks.json",
    ],
    "catalog": [
        "/api/products",
        "/api/products?category=dogs",
        "/api/products/search",
        "/api/products/1/reviews",
        "/api/products/1/waitlist",
        "/api/categories/cats",
        "/api/reviews/1",
        "/api/me/reviews",
        "/api/me/waitlist",
        "/api/embeddings",
        "/api/cache/stats",
        "/api/graphql",
        "/api/cron/waitlist-notifications",
    ],
    "orders": [
        "/api/cart",
        "/api/cart/items/1",
        "/api/checkout",
        "/api/checkout/1/cancel",
        "/api/me/orders",
        "/api/me/orders/1/reorder",
        "/api/me/spending",
        "/api/me/appointments/1/reschedule",
        "/api/appointments/slots",
        "/api/appointments",
        "/api/cron/appointment-reminders",
        "/api/cron/abandoned-carts",
        "/api/cron/release-expired-holds",
    ],
    "payments-webhooks": [
        "/api/stripe/webhook",
        "/api/payments/intents/1",
        "/api/payments/subscriptions/1/resume",
        "/api/payments/methods/1",
        "/api/cron/reconcile-payments",
    ],
    "notifications": [
        "/api/me/preferences",
        "/api/unsubscribe/abc",
        "/api/email/webhook",
        "/api/cron/retry-failed-emails",
    ],
    "admin": [
        "/api/admin/dashboard",
        "/api/admin/email-campaigns/send",
        "/api/admin/traces/1",
        "/api/health",
        "/api/openapi.json",
        "/api/docs",
        "/api/cron/purge-expired",
    ],
}
NOWHERE = [
    "/",
    "/api",
    "/api/cartfoo",
    "/api/mefoo",
    "/api/cron/unknown",
    "/api/stripe",
    "/livez",
    "/readyz",
    "/metrics",
    "/v1/traces",
    "/api/cart/../../metrics",
]


@dataclass(slots=True)
class Request:
    """What arrived behind the gateway."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Upstream:
    """A service as the gateway sees it: tells who it is; `x-test` orders it to hang or to hang up."""

    name: str
    requests: list[Request] = field(default_factory=list)
    spans: list[tuple[str, Any]] = field(default_factory=list)
    server: asyncio.Server | None = None
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._connection, HOST, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        await self.server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(await _read(reader), writer):
                    pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        body, status = json.dumps({"service": self.name, "bytes": len(request.body)}).encode(), 200
        own = ""
        if request.target == "/v1/traces":
            self._keep(request.body)
        elif request.target != "/readyz":
            self.requests.append(request)
            match request.values("x-test"):
                case ["hang"]:
                    await asyncio.sleep(60)
                case ["hang-up"]:
                    return False
                case ["unavailable"]:
                    status = 503
                case ["page"]:
                    own = "content-security-policy: default-src 'self'\r\n"
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nx-correlation-id: forged-by-service\r\n"
            f"content-type: application/json\r\n{own}\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    def _keep(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]


async def _read(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = dict(headers)
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Request(method, target, headers, body)


@dataclass(slots=True)
class Gateway:
    """A running Envoy and what stands behind it."""

    client: httpx.AsyncClient
    port: int
    upstreams: dict[str, Upstream]
    log: Path

    async def raw(self, data: bytes) -> str:
        """The answer to bytes that no client library would send."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(data)
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
            body = (await reader.readexactly(length)).decode()
        writer.close()
        return head + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Polls what another process brings about."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def answers(client: httpx.AsyncClient, path: str, status: int) -> bool:
    with suppress(httpx.TransportError):
        return (await client.get(path)).status_code == status
    return False


def environment(upstreams: dict[str, Upstream], port: int, admin_port: int) -> dict[str, str]:
    given = {"GATEWAY_HOST": HOST, "GATEWAY_PORT": str(port), "ADMIN_PORT": str(admin_port)}
    given |= {"ROUTE_TIMEOUT": "1s", "BODY_TIMEOUT": "0.5s", "HEADERS_TIMEOUT": "0.5s"}
    given |= {"HEALTHY_INTERVAL": "0.1s", "HEALTH_INTERVAL": "0.1s"}
    for name, upstream in upstreams.items():
        given |= {f"{PLACEHOLDERS[name]}_HTTP_HOST": HOST, f"{PLACEHOLDERS[name]}_HTTP_PORT": str(upstream.port)}
    return given


@asynccontextmanager
async def envoy(configuration: Path, log: Path) -> AsyncIterator[None]:
    binary = Path(sys.executable).parent / "envoy"
    options = ("--disable-hot-restart", "--concurrency", "1", "-l", "error", "--file-flush-interval-msec", "200")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            binary, "-c", configuration, *options, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    upstreams = {name: Upstream(name) for name in OWNERS}
    port, admin_port = free_port(), free_port()
    async with AsyncExitStack() as stack:
        for upstream in upstreams.values():
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        configuration, log = folder / "envoy.yaml", folder / "log"
        configuration.write_text(render(environment(upstreams, port, admin_port)))
        await stack.enter_async_context(envoy(configuration, log))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{HOST}:{port}"))
        admin = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{HOST}:{admin_port}"))
        await eventually(lambda: answers(admin, "/ready", 200))
        yield Gateway(client, port, upstreams, log)


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    """The gateway, with nothing seen behind it yet."""
    for upstream in running.upstreams.values():
        upstream.requests.clear()
    return running


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """RFC 9457, with our members, and with the security headers that services give: each once."""
    assert {name: answer.headers.get_list(name) for name, _ in SECURITY_HEADERS} == {
        name: [value] for name, value in SECURITY_HEADERS
    }
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "correlation_id"}
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:holdfast:problem:{code}")
    assert problem["correlation_id"] == answer.headers["x-correlation-id"] != ""


@pytest.mark.parametrize(
    ("service", "path"), [(service, path) for service, paths in OWNERS.items() for path in paths], ids=str
)
async def test_each_path_goes_to_its_owner(gateway: Gateway, service: str, path: str) -> None:
    """One service answers, the one that owns the path, whatever the method; it sees path and query unchanged."""
    for method in ("GET", "POST", "DELETE"):
        answer = await gateway.client.request(method, path)
        assert (answer.status_code, answer.json()["service"]) == (200, service)
    seen = [request.target for upstream in gateway.upstreams.values() for request in upstream.requests]
    assert seen == [path] * 3


@pytest.mark.parametrize("path", NOWHERE)
async def test_everything_else_is_nowhere(gateway: Gateway, path: str) -> None:
    """Paths of nobody, and the services' internal ones, are 404, also with a body over the limit."""
    assert_problem(await gateway.client.get(path), 404, "not_found")
    assert_problem(await gateway.client.post(path, content=b"x" * (2 * LIMIT)), 404, "not_found")
    assert not any(upstream.requests for upstream in gateway.upstreams.values())


@pytest.mark.parametrize("path", ["/api/cart", "/nowhere"])
async def test_a_good_correlation_id_is_kept(gateway: Gateway, path: str) -> None:
    """The client's id reaches the service and comes back, on errors too; the service cannot change it."""
    for value in ("a", "A-b_c.9", "x" * 128):
        answer = await gateway.client.get(path, headers={"X-Correlation-ID": value})
        assert answer.headers.get_list("x-correlation-id") == [value]
        for request in gateway.upstreams["orders"].requests[-1:]:
            assert request.values("x-correlation-id") == [value]


@pytest.mark.parametrize("values", [[], [""], ["x" * 129], ["a b"], ["a;b"], ["ä"], ["a", "b"]])
@pytest.mark.parametrize("path", ["/api/cart", "/nowhere"])
async def test_a_bad_correlation_id_is_replaced(gateway: Gateway, path: str, values: list[str]) -> None:
    """None, too long, other characters or several: one new id for the service and the client alike."""
    headers = [(b"X-Correlation-ID", value.encode()) for value in values]
    answer = await gateway.client.get(path, headers=headers)
    (answered,) = answer.headers.get_list("x-correlation-id")
    assert len(answered) == 36
    for request in gateway.upstreams["orders"].requests:
        assert request.values("x-correlation-id") == [answered]


async def test_forged_headers_are_stripped(gateway: Gateway) -> None:
    """The services believe the gateway, so nothing that only the gateway may say comes from a client."""
    forged = {
        "X-Request-Id": "forged",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "forged",
        "X-Real-Ip": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Client-Address": "203.0.113.9",
        "X-Envoy-External-Address": "203.0.113.9",
        "X-Envoy-Expected-Rq-Timeout-Ms": "999999",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "999999",
        "X-Envoy-Retry-On": "5xx",
        "X-Envoy-Max-Retries": "9",
        "X-Envoy-Anything": "forged",
        "X-Deadline-Ms": "999999",
        "X-Attempt": "9",
    }
    answer = await gateway.client.get("/api/cart", headers=forged)
    (request,) = gateway.upstreams["orders"].requests
    everything = [value for _, value in request.headers]
    assert not {"forged", "203.0.113.9", "for=203.0.113.9", "999999", "5xx", "9"} & set(everything)
    assert request.values("x-client-address") == [HOST]
    assert request.values("x-envoy-expected-rq-timeout-ms") == ["1000"], "the service is told what time it has"
    assert request.values("x-request-id") == [answer.headers["x-request-id"]]
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ({}, []),
        ({"Via": "1.1 proxy", "X-Forged": "forwarded", "X-Claimed-Forwarded": "1"}, []),
        ({"X-Forwarded-For": "203.0.113.9"}, ["x-forwarded-for"]),
        (
            {"X-Forwarded-For": "-", "Forwarded": "for=_x", "X-Real-IP": "::1", "X-Client-Address": "10.0.0.1"},
            ["x-forwarded-for,forwarded,x-real-ip,x-client-address"],
        ),
    ],
    ids=["nothing", "what only the gateway says", "one", "all"],
)
async def test_whoever_says_where_they_come_from_is_noted(
    gateway: Gateway, said: dict[str, str], noted: list[str]
) -> None:
    """The service is told which headers were taken off, and so is the log; of what was in them, nothing."""
    correlation = os.urandom(8).hex()
    for path in ("/api/cart", "/nowhere"):
        await gateway.client.get(path, headers={**said, "X-Correlation-ID": correlation})
    (request,) = gateway.upstreams["orders"].requests
    assert request.values("x-forged") == noted
    assert not [name for name, _ in request.headers if name.startswith("x-claimed")]

    async def written() -> bool:
        return gateway.log.read_text().count(correlation) == 2

    await eventually(written)
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if correlation in line]
    assert [line["forged"] for line in lines] == [noted[0] if noted else None] * 2


async def test_the_body_limit_is_one_mebibyte(gateway: Gateway) -> None:
    """1048576 bytes pass, one more is 413 and no service hears of it; with a length and in chunks."""

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for start in range(0, count, 65_536):
            yield b"x" * min(65_536, count - start)

    for body in (b"x" * LIMIT, chunks(LIMIT)):
        assert (await gateway.client.post("/api/cart/items", content=body)).json()["bytes"] == LIMIT
    gateway.upstreams["orders"].requests.clear()
    for body in (b"x" * (LIMIT + 1), chunks(LIMIT + 1), b"x" * (2 * LIMIT)):
        assert_problem(await gateway.client.post("/api/cart/items", content=body), 413, "payload_too_large")
    assert not gateway.upstreams["orders"].requests


async def test_a_service_that_is_down_is_503_at_once(gateway: Gateway) -> None:
    """Its own paths say when to try again, the others go on, and it is found again when it is back."""
    upstream = gateway.upstreams["notifications"]
    path = "/api/me/preferences"
    assert await answers(gateway.client, path, 200)
    await upstream.stop()
    try:
        first = await gateway.client.post(path)  # before the health check has noticed
        assert_problem(first, 503, "unavailable")
        await eventually(lambda: answers(gateway.client, path, 503))
        started = time.monotonic()
        answer = await gateway.client.get(path)
        assert time.monotonic() - started < 0.5
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == first.headers["retry-after"] == "1"
        assert await answers(gateway.client, "/api/cart", 200)
    finally:
        await upstream.start()
    await eventually(lambda: answers(gateway.client, path, 200))


async def test_an_answer_in_time_or_504(gateway: Gateway) -> None:
    """A service that does not answer is given up at the route's timeout, and asked once."""
    answer = await gateway.client.post("/api/cart/items", headers={"X-Test": "hang"})
    assert_problem(answer, 504, "deadline_exceeded")
    assert len(gateway.upstreams["orders"].requests) == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_was_sent_is_not_sent_again(gateway: Gateway, method: str) -> None:
    """A connection lost after the request was read may have had its effect: the client decides, not the gateway."""
    answer = await gateway.client.request(method, "/api/checkout", headers={"X-Test": "hang-up"})
    assert_problem(answer, 503, "unavailable")
    assert len(gateway.upstreams["orders"].requests) == 1


async def test_a_service_keeps_its_own_errors(gateway: Gateway) -> None:
    """An answer is an answer: a 503 of the service is handed on unchanged, and not retried."""
    answer = await gateway.client.get("/api/cart", headers={"X-Test": "unavailable"})
    assert (answer.status_code, answer.json()["service"]) == (503, "orders")
    assert len(gateway.upstreams["orders"].requests) == 1


async def test_a_page_keeps_a_policy_of_its_own(gateway: Gateway) -> None:
    """The gateway adds the security headers that a service has not sent, and replaces none."""
    plain, page = [await gateway.client.get("/api/docs", headers={"X-Test": test}) for test in ("", "page")]
    assert plain.headers["content-security-policy"] == dict(SECURITY_HEADERS)["content-security-policy"]
    assert page.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"GET /api/cart HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"GET /api/cart HTTP/1.0\r\n\r\n", 426, "upgrade_required"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431, "headers_too_large"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\n", 408, "request_timeout"),
        (b"POST /api/cart HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow", 408, "request_timeout"),
        (b"GET /api/cart HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400, "invalid_request"),
    ],
    ids=["nonsense", "no host", "HTTP/1.0", "long header", "slow headers", "slow body", "two lengths"],
)  # fmt: skip
async def test_requests_refused_before_they_are_whole(gateway: Gateway, data: bytes, status: int, code: str) -> None:
    """Even what is no request gets a problem document with a correlation id, and no service hears of it."""
    head, _, body = (await gateway.raw(data)).partition("\r\n\r\n")
    lines = head.lower().split("\r\n")
    assert lines[0].split()[1] == str(status)
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert f"x-correlation-id: {problem['correlation_id']}" in lines
    for name, value in SECURITY_HEADERS:
        assert [line for line in lines if line.startswith(f"{name}:")] == [f"{name}: {value}".lower()]
    assert not gateway.upstreams["orders"].requests


@pytest.mark.parametrize(
    "path",
    [
        "/api/cart%2Fitems",
        "/api/cart%2f..%2fadmin",
        "/api/cart%5citems",
        "/api/cart%0a",
        "/api/cart%0D%0Ax",
        "/api/cart%7F",
        "/api/unsubscribe/..%2f..%2fmetrics",
    ],
)
async def test_an_escaped_slash_is_refused(gateway: Gateway, path: str) -> None:
    """Gateway and service would read different paths; the client's correlation id is on the answer."""
    answer = await gateway.client.get(path, headers={"X-Correlation-ID": "mine"})
    assert_problem(answer, 400, "invalid_request")
    assert answer.headers["x-correlation-id"] == "mine"
    assert not any(upstream.requests for upstream in gateway.upstreams.values())
    assert (await gateway.client.get("/api/cart?next=%2Fa%0a")).status_code == 200, "a query may hold anything"


async def test_slashes_and_dots_are_made_plain(gateway: Gateway) -> None:
    """The service sees the path that the route was chosen by."""
    await gateway.raw(b"GET //api///me/../cart//items HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [request.target for request in gateway.upstreams["orders"].requests] == ["/api/cart/items"]


def attributes(span: Any) -> dict[str, str]:
    return {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_the_trace_goes_on_through_the_gateway(gateway: Gateway, flags: str) -> None:
    """From client to gateway span to service: one trace, the span found by correlation id, sampled in any case."""
    trace, parent, correlation = os.urandom(16).hex(), os.urandom(8).hex(), os.urandom(8).hex()
    headers = {"traceparent": f"00-{trace}-{parent}-{flags}", "X-Correlation-ID": correlation}
    answer = await gateway.client.get("/api/unsubscribe/secret-token?email=secret", headers=headers)
    received = gateway.upstreams["admin"].spans

    async def arrived() -> bool:
        return any(attributes(span).get("correlation.id") == correlation for _, span in received)

    await eventually(arrived)
    ((service, span),) = [item for item in received if attributes(item[1]).get("correlation.id") == correlation]
    assert (service, span.name, span.trace_id.hex()) == ("gateway", "GET /api/unsubscribe", trace)
    assert span.parent_span_id.hex() == parent
    assert attributes(span)["request.id"] == answer.headers["x-request-id"]
    assert attributes(span)["url.path"] == "/api/unsubscribe/-"
    assert not [value for value in attributes(span).values() if "secret" in value]
    (request,) = gateway.upstreams["notifications"].requests
    assert request.values("traceparent") == [f"00-{trace}-{span.span_id.hex()}-01"]


async def test_the_access_log_tells_the_story_and_no_secret(gateway: Gateway) -> None:
    """One JSON line per request, found by correlation id; no query, no token, no credentials."""
    correlation = os.urandom(8).hex()
    headers = {"X-Correlation-ID": correlation, "Authorization": "Bearer secret", "Cookie": "session=secret"}
    await gateway.client.post("/api/unsubscribe/secret?token=secret", headers=headers, content=b"1234")

    async def written() -> bool:
        return correlation in gateway.log.read_text()

    await eventually(written)
    (line,) = [line for line in gateway.log.read_text().splitlines() if correlation in line]
    assert "secret" not in line
    entry = json.loads(line)
    expected = {
        "correlation_id": correlation,
        "method": "POST",
        "path": "/api/unsubscribe/-",
        "status": 200,
        "upstream": "notifications",
        "bytes_in": 4,
        "attempts": 1,
    }
    assert entry | expected == entry
    assert len(entry["trace_id"]) == 32


async def test_the_admin_interface_is_on_loopback_only(gateway: Gateway) -> None:
    """Wherever the gateway listens, its own admin interface does not."""
    given = environment(gateway.upstreams, 1, 2) | {"GATEWAY_HOST": "0.0.0.0"}
    assert "admin:\n  address: {socket_address: {address: 127.0.0.1, port_value: 2}}" in render(given)


def test_every_bad_variable_is_named_at_once() -> None:
    """A gateway with a hole in its configuration is not started."""
    with pytest.raises(InvalidEnvironment) as refused:
        render({"GATEWAY_HOST": "a\n- b", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    assert "GATEWAY_HOST is not a host" in str(refused.value)
    for name in ("GATEWAY_PORT", "ADMIN_PORT", *(f"{name}_HTTP_PORT" for name in PLACEHOLDERS.values())):
        assert f"{name} is missing" in str(refused.value)
