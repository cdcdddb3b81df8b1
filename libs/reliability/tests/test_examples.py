"""The examples do what their words say."""

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import grpc.aio
import httpx
import pytest

from reliability.errors import Problem
from reliability.testing import FaultProxy

if TYPE_CHECKING:
    from conftest import Servers

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> ModuleType:
    """An example, as if it had been started with these variables."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("cache")  # empties it
async def test_the_starlette_application(servers: "Servers", monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty clicks subscribe once, a flood is told when to come back, and it goes on without Redis."""
    url = servers.endpoints.redis
    async with FaultProxy.before(url) as proxy:
        example = load("starlette_app", monkeypatch, REDIS_URL=proxy.through(url))
        transport = httpx.ASGITransport(example.app, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
            subscribing = [client.post("/subscribe", json={"email": "a@example.com"}) for _ in range(20)]
            answers = await asyncio.gather(*subscribing)
            assert sorted(answer.status_code for answer in answers) == [201] + [429] * 19
            assert {answer.json().get("code") for answer in answers} == {None, "duplicate_request"}
            assert all(answer.headers["x-correlation-id"] for answer in answers)

            flood = [await client.post("/subscribe", json={"email": f"{n}@example.com"}) for n in range(11)]
            assert [answer.status_code for answer in flood] == [201] * 10 + [429]
            assert (flood[-1].json()["code"], flood[0].headers["ratelimit"][:11]) == ("rate_limited", '"subscribe"')
            assert int(flood[-1].headers["retry-after"]) > 0

            proxy.refuse()
            assert (await client.post("/subscribe", json={"email": "b@example.com"})).status_code == 201
            missing = await client.get("/nowhere")
            assert missing.status_code == 404
        await example.cache.close()


@pytest.mark.usefixtures("cache")  # empties it
async def test_the_grpc_service(servers: "Servers", monkeypatch: pytest.MonkeyPatch) -> None:
    """The same over gRPC: what the service refuses, its caller is told."""
    url = servers.endpoints.redis
    async with FaultProxy.before(url) as proxy:
        example = load("grpc_service", monkeypatch, REDIS_URL=proxy.through(url))
        server, port = example.build("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [example.call(channel, "a@example.com") for _ in range(20)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, Problem)]
            assert [answer for answer in answers if answer not in refused] == [1]
            assert [(problem.code, problem.status) for problem in refused] == [("duplicate_request", 429)] * 19
            assert all(problem.retry_after for problem in refused)

            assert [await example.call(channel, f"{n}@example.com") for n in range(10)] == list(range(2, 12))
            with pytest.raises(Problem, match="Too many attempts") as limited:
                await example.call(channel, "b@example.com")
            assert limited.value.code == "rate_limited"

            proxy.refuse()
            assert await example.call(channel, "b@example.com") == 12
        await server.stop(0)
        await example.cache.close()
