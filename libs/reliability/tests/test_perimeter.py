"""What another site can make a browser do to us: nothing it does not say in the settings."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from reliability.asgi import SECURITY_HEADERS, Access, Answer, Call, Endpoint, Perimeter, middleware
from reliability.context import Principal
from reliability.health import Readiness
from reliability.runtime import Application

OURS, FRIEND, STRANGER = "https://shop.test", "https://front.test", "https://evil.test"
COOKIE = {"Cookie": "holdfast_cart=1"}


async def answer(_call: Call) -> Answer:
    return Answer({})


async def broken(_call: Call) -> Answer:
    raise RuntimeError


async def anybody(_request: object) -> Principal:
    return Principal(id="1", kind="staff")


APPLICATION = Application(
    endpoints=[
        *(Endpoint(method, "/public", answer) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")),
        Endpoint("POST", "/customer", answer, access=Access.CUSTOMER),
        Endpoint("POST", "/staff", answer, access=Access.STAFF),
        Endpoint("POST", "/webhook", answer, access=Access.SIGNED),
        Endpoint("GET", "/broken", broken),
    ],
    authenticate=anybody,
)


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    perimeter = Perimeter(OURS, (FRIEND,))
    edge = APPLICATION.asgi(Readiness({}), request_seconds=8.0, perimeter=perimeter)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url=OURS) as client:
        yield client


UNSAFE = [
    *((method, "/public") for method in ("POST", "PUT", "PATCH", "DELETE")),
    ("POST", "/customer"),
    ("POST", "/staff"),
]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": STRANGER}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)
async def test_a_foreign_site_cannot_use_our_cookies(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    """Every unsafe method of every route that reads cookies, whatever its handler does; no route has to ask for it."""
    refused = await http.request(method, path, headers={**COOKIE, **headers})
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OURS, **COOKIE},
        {"Origin": FRIEND, **COOKIE},
        {"Sec-Fetch-Site": "same-origin", **COOKIE},
        COOKIE,
        {"Origin": STRANGER},
    ],
)
async def test_our_pages_and_programs_are_let_through(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Ours, a site the settings name, a client that is no browser, and whoever brings no cookie."""
    assert (await http.post("/public", headers=headers)).status_code == 200


async def test_reading_is_left_to_cors(http: httpx.AsyncClient) -> None:
    """A foreign page may ask; its browser keeps the answer from it. A webhook is proven by its body."""
    read = await http.get("/public", headers={"Origin": STRANGER, **COOKIE})
    assert (read.status_code, read.headers.get("access-control-allow-origin")) == (200, None)
    assert (await http.post("/webhook", headers={"Origin": STRANGER, **COOKIE})).status_code == 200


@pytest.mark.parametrize("path", ["/public", "/broken", "/nothing"])
async def test_a_friendly_page_may_read_every_answer(http: httpx.AsyncClient, path: str) -> None:
    """Errors too: the correlation id is what it would show."""
    told = (await http.get(path, headers={"Origin": FRIEND})).headers
    assert told["access-control-allow-origin"] == FRIEND
    assert told["access-control-allow-credentials"] == "true"
    assert "x-correlation-id" in told["access-control-expose-headers"].lower()
    assert "Origin" in told["vary"]


async def test_preflights(http: httpx.AsyncClient) -> None:
    """A site we know is told what it may send; for any other OPTIONS is a method like any that is not there."""
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key,content-type"}
    friend = await http.options("/public", headers={"Origin": FRIEND, **asks})
    assert (friend.status_code, friend.headers["access-control-allow-origin"]) == (200, FRIEND)
    assert "idempotency-key" in friend.headers["access-control-allow-headers"].lower()
    assert friend.headers["x-correlation-id"]
    stranger = await http.options("/public", headers={"Origin": STRANGER, **asks})
    assert (stranger.status_code, stranger.headers.get("access-control-allow-origin")) == (405, None)


@pytest.mark.parametrize("path", ["/public", "/broken", "/nothing"])
async def test_every_answer_carries_the_security_headers(http: httpx.AsyncClient, path: str) -> None:
    """Whatever it answers."""
    told = (await http.get(path)).headers
    assert {name: told[name] for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
    assert told["strict-transport-security"] == "max-age=31536000"


async def test_a_page_brings_a_policy_of_its_own() -> None:
    """The edge adds what is missing and replaces nothing; without https it promises none."""

    async def page(_call: Call) -> Answer:
        return Answer({}, headers={"Content-Security-Policy": "default-src 'self'"})

    edge = Application(endpoints=[Endpoint("GET", "/", page)]).asgi(Readiness({}), request_seconds=8.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://shop.test") as client:
        told = (await client.get("/")).headers
    assert told.get_list("content-security-policy") == ["default-src 'self'"]
    assert "strict-transport-security" not in told


async def test_whoever_says_where_they_come_from_is_counted(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the names the gateway noted and no others; a line has the address that counts; the answer is the same."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    monkeypatch.setattr(middleware, "_forged", meter.create_counter("forged"))
    for noted in (None, "", "x-made-up", "forwarded", "x-forwarded-for,forwarded"):
        headers = {"X-Client-Address": "203.0.113.9", **({} if noted is None else {"X-Forged": noted})}
        assert (await http.get("/public", headers=headers)).status_code == 200
    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    counted = {str((point.attributes or {})["header"]): getattr(point, "value", 0) for point in points}
    assert counted == {"forwarded": 2, "x-forwarded-for": 1}
    lines = [line for line in capsys.readouterr().out.splitlines() if "suspected_abuse" in line]
    assert len(lines) == 2
    assert all("forged_headers" in line and "203.0.113.9" in line for line in lines)
