"""One process that is kept running: started, watched, restarted with backoff when it ends or hangs, stopped."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from deploy.local.errors import NotReady, tail
from deploy.local.events import log
from deploy.local.pids import ProcessId
from deploy.local.spawn import exit_code, spawn
from deploy.local.specs import Process

__all__ = ["Backoff", "Managed", "Status"]

State: TypeAlias = Literal["starting", "ready", "restarting", "stopped"]

READY_SECONDS = 60.0
# A process that six times in a row, every five seconds, does not answer whether it is alive is taken to hang.
ALIVE_SECONDS = 5.0
ALIVE_MISSES = 6
_EX_CONFIG = 78  # sysexits.h: the settings are wrong, and trying again does not mend them
_EX_OSERR = 71
_EARLY_EXITS = 3
_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Backoff:
    """0.2 s, doubled at each restart up to 5 s, and back to 0.2 s for a process that was up for 10 s."""

    first: float = 0.2
    cap: float = 5.0
    reset_after: float = 10.0
    _attempt: int = 0

    def after(self, uptime: float) -> float:
        """Seconds to wait before restarting a process that was up for `uptime` seconds."""
        if uptime >= self.reset_after:
            self._attempt = 0
        delay = min(self.cap, self.first * 2.0**self._attempt)
        self._attempt += 1
        return delay


@dataclass(frozen=True, slots=True)
class Status:
    """What is recorded about a process, enough to recognise and stop it later."""

    pid: int
    started: str
    state: State
    restarts: int
    since: str
    ports: tuple[int, ...]
    stop_signal: int

    def json(self) -> dict[str, object]:
        """As stored in processes.json."""
        return asdict(self)


class Managed:
    """Runs one :class:`Process` until told to stop."""

    def __init__(self, spec: Process, log_file: Path, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self._log_file = log_file
        self._on_change = on_change
        self._child: subprocess.Popen[bytes] | None = None
        self._identity: ProcessId | None = None
        self._state: State = "stopped"
        self._since = ""
        self._restarts = -1
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status | None:
        """None before the first start."""
        if self._identity is None:
            return None
        return Status(
            self._identity.pid,
            self._identity.started,
            self._state,
            self._restarts,
            self._since,
            self.spec.ports,
            self.spec.stop_signal,
        )

    async def start(self) -> None:
        """Returns when the process is ready; raises :class:`NotReady` when it does not get there."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(ready), name=self.spec.name)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await ready
        except TimeoutError:
            raise self._not_ready(f"was not ready after {READY_SECONDS:.0f} s") from None

    async def stop(self) -> None:
        """Asks the process to end, and makes sure that it did."""
        self._stopping = True
        child, task = self._child, self._task
        if task is None:
            return
        if child is None or child.returncode is not None:
            task.cancel()
        else:
            await self._end(child)
        with suppress(asyncio.CancelledError):
            await task
        self._enter("stopped")

    async def _end(self, child: subprocess.Popen[bytes]) -> None:
        self._signal(self.spec.stop_signal)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.spec.stop_seconds):
                await exit_code(child)
                return
        log("process_killed", "warning", process=self.spec.name, after_seconds=self.spec.stop_seconds)
        self._signal(signal.SIGKILL)
        await exit_code(child)

    async def _keep_running(self, ready: asyncio.Future[None]) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            try:
                code = await self._run_once(ready)
            except OSError as error:  # it cannot be executed at all: the file is gone, the machine is full
                log("process_not_started", "error", process=self.spec.name, error=str(error))
                code = _EX_OSERR
            if self._stopping:
                return
            if not ready.done() and (code in {_EX_CONFIG, _EX_OSERR} or self._restarts >= _EARLY_EXITS - 1):
                ready.set_exception(self._not_ready(f"ended while starting ({_describe(code)})"))
                return
            delay = backoff.after(time.monotonic() - began)
            log("process_exited", "warning", process=self.spec.name, exit=_describe(code), restart_in=delay)
            self._enter("restarting")
            await asyncio.sleep(delay)

    async def _run_once(self, ready: asyncio.Future[None]) -> int:
        self._child = child = spawn(self.spec.command, self._log_file, self.spec.death_signal)
        self._identity = ProcessId.of(child.pid) or ProcessId(child.pid, "gone")
        self._restarts += 1
        self._enter("starting")
        watch = asyncio.create_task(self._watch(ready))
        try:
            return await exit_code(child)
        finally:
            watch.cancel()
            # What the process had started itself does not outlive it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

    async def _watch(self, ready: asyncio.Future[None]) -> None:
        began = time.monotonic()
        try:
            while not await self.spec.ready():  # noqa: ASYNC110 - another process cannot set an Event
                await asyncio.sleep(_POLL_SECONDS)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            if not ready.done():
                ready.set_exception(error)
            return
        log("process_ready", process=self.spec.name, seconds=round(time.monotonic() - began, 2))
        self._enter("ready")
        if not ready.done():
            ready.set_result(None)
        await self._until_it_hangs()
        log("process_hangs", "error", process=self.spec.name)
        self._signal(signal.SIGKILL)  # a process that is stopped hears no other

    async def _until_it_hangs(self) -> None:
        missed = 0
        while missed < ALIVE_MISSES:
            await asyncio.sleep(ALIVE_SECONDS)
            missed = 0 if self._stopping or await self.spec.alive() else missed + 1

    def _enter(self, state: State) -> None:
        self._state = state
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._on_change()

    def _signal(self, number: int) -> None:
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _not_ready(self, what: str) -> NotReady:
        return NotReady(f"{self.spec.name} {what}; its log is {self._log_file}", tail(self._log_file))


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
