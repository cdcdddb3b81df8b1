"""Fixtures of the gateway's promises."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio

from services.gateway.render import render
from tests.integration.gateway.support import (
    HOST,
    PLACEHOLDERS,
    Gateway,
    Upstream,
    answers,
    environment,
    envoy,
    eventually,
    free_port,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    upstreams = {name: Upstream(name) for name in PLACEHOLDERS}
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
