"""One process: Starlette, grpc.aio and the worker on one event loop, drained on SIGTERM.

The order of a drain: say not ready, stop taking jobs and give back what is held, let requests and calls in
flight finish, close the pools, send the last spans.
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop
from grpc_health.v1 import health_pb2
from pydantic import PostgresDsn
from pydantic_settings import BaseSettings, SettingsConfigDict

from reliability import crash_points, exporting, rpc, settings
from reliability.circuit_breaker.sharing import share
from reliability.logging import get_logger, setup_logging
from reliability.migrations import migrate
from reliability.runtime import Application, Runtime
from reliability.slow_headers import impatient

__all__ = ["main", "settle"]

_log = get_logger(__name__)
_KEEP_ALIVE = 75
_DATE_SECONDS = 1.0
_COLLECT_AFTER = 10_000

S = TypeVar("S", bound=settings.ServiceSettings)


class _MigrationSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    database_url: PostgresDsn | None = None
    migration_database_url: PostgresDsn | None = None


def main(
    name: str,
    settings_type: type[S],
    build: Callable[[Runtime[S]], Application],
    *,
    migrations: Path,
    parts: tuple[str, ...],
    access: Any,
) -> None:
    """The command line of a service: `serve`, `worker` or `migrate`.

    `migrations` is the folder of its own tables, `parts` names the library's tables it uses, `access` is the
    method option that says who may call an RPC.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{name.replace('-', '_')}")
    parser.add_argument("command", choices=["serve", "worker", "migrate"])
    command = parser.parse_args().command
    if command == "migrate":
        urls = settings.load(_MigrationSettings)
        url = urls.migration_database_url or urls.database_url
        if url is None:
            sys.exit("Set MIGRATION_DATABASE_URL (or DATABASE_URL) to the owner role's address.")
        sys.exit(migrate(str(url), migrations, parts))
    loaded = settings.load(settings_type)
    setup_logging(name, loaded.log_level, loaded.log_format)
    exporting.setup_telemetry(name, loaded.otel_exporter_otlp_endpoint)
    crash_points.enable(loaded.crash_points)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(name, loaded, build, access, serving=command == "serve"))


async def _run(name: str, loaded: S, build: Callable[[Runtime[S]], Application], access: Any, *, serving: bool) -> None:
    """Until SIGTERM or SIGINT. Everything is built inside the loop it lives in."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        runtime = Runtime(name, loaded)
        stack.push_async_callback(runtime.close)
        application = build(runtime)
        if application.on_start is not None:
            await application.on_start()
        settle()
        if serving:
            await stack.enter_async_context(_serve_http(application, runtime, stop))
            await stack.enter_async_context(_serve_rpc(application, runtime, access))
        await stack.enter_async_context(_work(runtime, stop))
        await stack.enter_async_context(_share_breakers(runtime))
        _log.info("started", http_port=loaded.http_port, grpc_port=loaded.grpc_port, serving=serving)
        await stop.wait()
        runtime.readiness.draining = True
        _log.info("draining")
    exporting.shutdown_telemetry()
    _log.info("stopped")


def settle() -> None:
    """Tells the garbage collector that what is there stays, so that it need not walk through it at each of its rounds.

    And it makes fewer rounds: nearly all garbage of a request dies by its reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its own signal handlers: the drain decides when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Lets `serve` end once the requests in flight have."""
        self.should_exit = True
        if not self._stopping.done():
            self._stopping.set_result(None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        # Uvicorn's own looks ten times a second whether it shall stop. Told so, we wake for the date of the answers.
        while not await self.on_tick(0):
            await asyncio.wait({self._stopping}, timeout=_DATE_SECONDS)


@contextlib.asynccontextmanager
async def _serve_http(application: Application, runtime: Runtime[S], stop: asyncio.Event) -> AsyncIterator[None]:
    loaded = runtime.settings
    server = _Uvicorn(
        uvicorn.Config(
            application.asgi(
                runtime.readiness,
                request_seconds=loaded.request_seconds,
                bulkhead=runtime.bulkhead,
                perimeter=runtime.perimeter,
            ),
            host=loaded.host,
            port=loaded.http_port,
            http=impatient(loaded.headers_seconds),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Longer than the gateway keeps an idle connection, so that it never sends into a closing one.
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(loaded.drain_seconds),
        )
    )
    task = asyncio.create_task(server.serve(), name="http")
    task.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        server.stop()
        await task


@contextlib.asynccontextmanager
async def _serve_rpc(application: Application, runtime: Runtime[S], access: Any) -> AsyncIterator[None]:
    loaded = runtime.settings
    address = f"{loaded.host}:{loaded.grpc_port}"
    server, checks, _ = rpc.build_server(
        application.rpcs, access, address=address, tls=runtime.tls, bulkhead=runtime.bulkhead
    )
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        yield
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(loaded.drain_seconds)


@contextlib.asynccontextmanager
async def _work(runtime: Runtime[S], stop: asyncio.Event) -> AsyncIterator[None]:
    task = asyncio.create_task(runtime.worker.run(stop), name="worker")
    task.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        await task


@contextlib.asynccontextmanager
async def _share_breakers(runtime: Runtime[S]) -> AsyncIterator[None]:
    """What one process found out about a dependency, the others need not find out again."""
    task = asyncio.create_task(share(runtime.cache), name="breakers")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
