"""The supervisor process: what runs between `up` and `down`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from deploy.local.certificates import ensure_credentials
from deploy.local.credentials import load_secrets
from deploy.local.errors import LocalError, Unavailable
from deploy.local.events import Event, Listener, log
from deploy.local.external import notices
from deploy.local.pids import ProcessId, stop_all
from deploy.local.ports import Ports, require_free
from deploy.local.specs import Process
from deploy.local.state import StateDir, read_json, write_json
from deploy.local.supervisor import Supervisor
from deploy.local.topology import Site, choose

__all__ = ["supervise", "sweep"]

_ORPHAN_SECONDS = 5.0


def sweep(state: StateDir) -> list[str]:
    """Stops what a supervisor that died without cleaning up left running; returns the names."""
    left = {
        name: (ProcessId(record["pid"], record["started"]), int(record["stop_signal"]))
        for name, record in read_json(state.processes).items()
    }
    running = {name: entry for name, entry in left.items() if entry[0].alive()}
    stop_all(list(running.values()), _ORPHAN_SECONDS)
    _forget(state)
    return sorted(running)


async def supervise(state: StateDir, ports: Ports, only: Sequence[str], listener: Listener, *, tied: bool) -> int:
    """Starts the system, keeps it up until told to stop, stops it. Returns the exit code.

    `tied`: end of file on standard input, which the parent's death brings about, is an order to stop.
    """
    with state.lock("supervisor", wait=False) as ours:
        if not ours:
            listener(Event("system", "failed", message=f"another supervisor runs the system in {state.root}"))
            return 1
        stop = _stop_orders(tied=tied)
        try:
            await _live(state, ports, only, listener, stop)
        except LocalError as error:
            log("start_failed", "error", error=error.message)
            listener(Event("system", "failed", message=error.message, log_tail=error.log_tail))
            return 1
        except Exception as error:
            listener(Event("system", "failed", message=f"internal error: {error!r}; see {state.log('supervisor')}"))
            raise
        return 0


async def _live(state: StateDir, ports: Ports, only: Sequence[str], listener: Listener, stop: asyncio.Event) -> None:
    began = time.monotonic()
    if orphans := sweep(state):
        log("orphans_stopped", "warning", processes=orphans)
    _announce(state, ports, only, "starting")
    try:
        supervisor, site = _prepare(state, ports, only, listener)
        try:
            if not await _start(supervisor, stop):
                raise Unavailable("stopped while starting")
            site.endpoints(supervisor.pids()).write(state)
            _announce(state, ports, only, "up")
            log("system_up", seconds=round(time.monotonic() - began, 2))
            listener(Event("system", "done", time.monotonic() - began))
            await stop.wait()
        finally:
            _announce(state, ports, only, "stopping")
            log("system_stopping")
            state.endpoints.unlink(missing_ok=True)
            await supervisor.stop()
            log("system_stopped")
    finally:
        _forget(state)


def _prepare(state: StateDir, ports: Ports, only: Sequence[str], listener: Listener) -> tuple[Supervisor, Site]:
    for notice in notices(os.environ):
        listener(Event("system", "note", message=notice))
    site = Site.of(state, ports, load_secrets(state))
    ensure_credentials(state.tls)
    site.valkey.prepare()
    identity = site.postgres.identity() if site.external.database_url is None else None
    plan = choose(site.plan(identity), only)
    processes = [step for step in plan if isinstance(step, Process)]
    require_free(((port, step.name) for step in processes for port in step.ports), ports.base)

    def publish() -> None:
        if state.endpoints.exists():
            site.endpoints(supervisor.pids()).write(state)

    supervisor = Supervisor(plan, state, listener, publish)
    return supervisor, site


async def _start(supervisor: Supervisor, stop: asyncio.Event) -> bool:
    """Whether the start came to its end before an order to stop."""
    starting = asyncio.create_task(supervisor.start())
    ordered = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, ordered}, return_when=asyncio.FIRST_COMPLETED)
    ordered.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    with suppress(asyncio.CancelledError, LocalError):
        await starting
    return False


def _stop_orders(*, tied: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if tied:

        def read() -> None:
            if not os.read(sys.stdin.fileno(), 1024):
                loop.remove_reader(sys.stdin.fileno())
                stop.set()

        loop.add_reader(sys.stdin.fileno(), read)
    return stop


def _announce(state: StateDir, ports: Ports, only: Sequence[str], phase: str) -> None:
    me = ProcessId.of(os.getpid())
    started = me.started if me else ""
    record = {"pid": os.getpid(), "started": started, "port_base": ports.base, "only": list(only), "phase": phase}
    write_json(state.supervisor, record)


def _forget(state: StateDir) -> None:
    for path in (state.endpoints, state.processes, state.supervisor):
        path.unlink(missing_ok=True)
