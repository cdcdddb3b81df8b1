"""`make trace`, with the real accounts to sign in at and the real admin to ask."""

import asyncio
import contextlib
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn

from deploy.local.endpoints import Endpoints
from deploy.local.errors import Unavailable
from deploy.local.state import StateDir, read_text, write_private
from reliability.health import Readiness
from tests.integration.admin.conftest import OWNER, PASSWORD
from tests.integration.admin.support import Admin, pair, span, trace_id_of
from tools import trace as tool

FLOW = {"correlation.id": "flow-1"}


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def endpoints(gateway: str) -> Endpoints:
    staff = {"email": OWNER, "password": PASSWORD}
    return Endpoints(gateway, None, None, {}, "", "", staff, {}, {})


@pytest_asyncio.fixture(loop_scope="session")
async def system(admin: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Admin]:
    """Accounts and admin behind one address, as the gateway puts them."""
    accounts = admin.others["accounts"].application.asgi(Readiness({}), request_seconds=8.0)
    edge = admin.application.asgi(Readiness({}), request_seconds=8.0)

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        await (accounts if scope["path"].startswith("/api/auth/") else edge)(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(gateway, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(tool, "System", lambda: SimpleNamespace(endpoints=endpoints(url), state=StateDir(tmp_path)))
    yield admin
    server.should_exit = True
    await serving


async def purchase(admin: Admin) -> None:
    """A click and, linked to it, a job whose own spans come from another service."""
    await admin.export(
        span("click", "checkout", parent="the-browsers-own", attributes=FLOW),
        span("click", "enqueue", parent="checkout", at=1, attributes=FLOW),
    )
    await admin.export(
        span("job", "job send", at=2, links={"enqueue": "click"}, attributes=FLOW),
        span("job", "smtp", parent="job send", at=3, attributes=FLOW),
        service="notifications",
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line[:4] != "2026"]  # no log lines


async def test_a_correlation_id_draws_the_whole_flow(system: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    """Every trace of it in one tree, the linked one below the span that caused it."""
    await purchase(system)
    capsys.readouterr()
    assert await tool.show("flow-1") == 0
    assert lines(capsys) == [
        "orders checkout 1000.0 ms",
        "└── orders enqueue 1000.0 ms",
        "    └── ⤷ linked notifications job send 1000.0 ms",
        "        └── notifications smtp 1000.0 ms",
    ]


async def test_what_happened_during_a_span_is_drawn_below_it(system: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    """A retry, say: where an SRE looks for why it took so long."""
    tried = span("click", "checkout", attributes=FLOW)
    tried.events.add(
        name="retry", time_unix_nano=tried.start_time_unix_nano + 12_300_000, attributes=[pair("attempt", 1)]
    )
    await system.export(tried, span("click", "hold", parent="checkout", at=1, attributes=FLOW))
    capsys.readouterr()
    assert await tool.show("flow-1") == 0
    assert lines(capsys) == [
        "orders checkout 1000.0 ms",
        "├── after 12.3 ms: retry attempt=1",
        "└── orders hold 1000.0 ms",
    ]


async def test_a_trace_id_draws_that_trace(system: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone; what it was linked to is not there, so its first span is the root."""
    await purchase(system)
    capsys.readouterr()
    assert await tool.show(trace_id_of("job")) == 0
    assert lines(capsys) == ["notifications job send 1000.0 ms", "└── notifications smtp 1000.0 ms"]


async def test_a_correlation_id_may_look_like_a_trace_id(system: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    """No trace has that name, so it is looked for as a flow."""
    await system.export(span("click", "checkout", attributes={"correlation.id": "c" * 32}))
    capsys.readouterr()
    assert await tool.show("c" * 32) == 0
    assert lines(capsys) == ["orders checkout 1000.0 ms"]


@pytest.mark.parametrize("wanted", ["flow-2", "f" * 32, "F" * 32, "x" * 129, "no such id", "a/b", "\u00e4", "?limit=1"])
async def test_an_unknown_id_is_said_to_be_unknown(
    system: Admin, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    """One plain line that repeats it, and exit code 1; also for what can be no id at all."""
    await purchase(system)
    capsys.readouterr()
    assert await tool.show(wanted) == 1
    (line,) = lines(capsys)
    assert line.startswith(f"nothing is known of {wanted!r}")


async def test_whoever_looks_often_is_not_stopped_by_the_limit_on_logins(
    system: Admin, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The session of last time goes on; a token that is no longer good is replaced, and nobody else can read it."""
    await purchase(system)
    for _ in range(7):
        assert await tool.show("flow-1") == 0
    kept = StateDir(tmp_path).session
    assert mode(kept) == 0o600
    write_private(kept, "not a token")
    assert await tool.show("flow-1") == 0
    assert read_text(kept) != "not a token"


async def test_while_traces_cannot_be_read_nothing_is_claimed(system: Admin) -> None:
    """A database that is away is not an unknown id."""
    await purchase(system)
    system.postgres.refuse()
    with pytest.raises(httpx.HTTPStatusError, match="503"):
        await tool.show("flow-1")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """What the command exits with: a number, or the line it prints on its way out with status 1."""
    monkeypatch.setattr(sys, "argv", ["trace.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    return ended.value.code


@pytest.mark.parametrize("arguments", [(), ("",), ("a", "b")])
def test_without_an_id_it_says_how(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """Before anything is looked for."""
    assert "make trace ID=" in run(monkeypatch, *arguments)


def test_without_a_system_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, no traceback."""

    class Down:
        @property
        def endpoints(self) -> Endpoints:
            raise Unavailable("the system is not up: make up")

    monkeypatch.setattr(tool, "System", Down)
    assert run(monkeypatch, "flow-1") == "the system is not up: make up"


async def _later(*_: object) -> int:
    request = httpx.Request("POST", "http://127.0.0.1:8080/api/auth/login")
    raise httpx.HTTPStatusError("", request=request, response=httpx.Response(429, headers={"Retry-After": "840"}))


async def _unreached(*_: object) -> int:
    raise httpx.ConnectError("", request=httpx.Request("POST", "http://127.0.0.1:8080/api/auth/login"))


def test_a_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has logged in too often meets the limit on logins; a gateway that is gone meets nobody."""
    monkeypatch.setattr(tool, "show", _later)
    assert run(monkeypatch, "flow-1") == "/api/auth/login answered 429; try again in 840 s"
    monkeypatch.setattr(tool, "show", _unreached)
    assert run(monkeypatch, "flow-1") == "http://127.0.0.1:8080/api/auth/login does not answer: make status"
