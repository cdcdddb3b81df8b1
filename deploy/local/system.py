"""One system from outside: start it, find it, hurt it, stop it. For the command line and for tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from deploy.local.daemon import sweep
from deploy.local.endpoints import Endpoints
from deploy.local.errors import LocalError, NotReady, Unavailable, tail
from deploy.local.events import Event, Listener
from deploy.local.pids import ProcessId
from deploy.local.ports import Ports
from deploy.local.spawn import open_log
from deploy.local.state import ROOT, StateDir, read_json

__all__ = ["Running", "System"]

_STOP_SECONDS = 90.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Running:
    """The supervisor of a system."""

    process: ProcessId
    port_base: int
    phase: str


def _ignore(_event: Event) -> None:
    """A listener that does not care."""


class System:
    """A system in the background, known by its state directory.

    Used as a context manager it is started, tied to this process (it stops when this process dies, however it
    dies), and stopped at the end. `only` limits it to some processes and what they need: `("postgres", "valkey")`
    is a database with every service's database and roles in it, and a cache. `environment` is added to ours.
    """

    def __init__(
        self,
        state_dir: Path | str = ROOT / ".local",
        port_base: int = 8080,
        *,
        only: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = StateDir(Path(state_dir).resolve())
        self.ports = Ports(port_base)
        self._only = tuple(only)
        self._environment = dict(environment or {})
        self._supervisor: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Starts the system, tied to this process."""
        self.start(tied=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is. Raises :class:`Unavailable` when the system is not up."""
        if not self.running():  # the file of a supervisor that was killed is of no use
            raise Unavailable("the system is not up: make up")
        return Endpoints.read(self.state)

    @property
    def processes(self) -> dict[str, dict[str, Any]]:
        """The supervisor's record of each process: pid, state, restarts, since, ports."""
        return read_json(self.state.processes)

    def running(self) -> Running | None:
        """The supervisor, if there is one alive."""
        record = read_json(self.state.supervisor)
        if not record:
            return None
        process = ProcessId(record["pid"], record["started"])
        return Running(process, record["port_base"], record["phase"]) if process.alive() else None

    def start(self, listener: Listener = _ignore, *, tied: bool = False) -> Endpoints:
        """Starts the system and returns when it is ready; harmless when it is up already.

        Raises :class:`LocalError`, with nothing left running, when it does not come up.
        """
        self.state.create()
        with self.state.lock("up"):  # a second start waits for the first one, and finds it done
            self._wait_while_changing()
            if not self.running():
                self._launch(listener, tied=tied)
        return self.endpoints

    def stop(self) -> bool:
        """Stops the system and whatever a dead supervisor left; returns whether anything ran."""
        if not self.state.root.exists():
            return False
        running = self.running()
        if running:
            running.process.signal_group(signal.SIGTERM)
            if not _within(_STOP_SECONDS, lambda: not running.process.alive()):
                running.process.signal_group(signal.SIGKILL)
                _within(_STOP_SECONDS, lambda: not running.process.alive())
        with self.state.lock("supervisor", wait=False) as nobody_runs_it:
            orphans = sweep(self.state) if nobody_runs_it else []
        self._release()
        return bool(running or orphans)

    def wait(self) -> int:
        """Waits for the end of the supervisor that this object started; returns its exit code."""
        return self._supervisor.wait() if self._supervisor else 0

    def pid(self, name: str) -> int:
        """The present pid of a process."""
        return self._identity(name).pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Signals a process and its group, SIGKILL unless told otherwise; returns the pid it had.

        The supervisor starts it again: see :meth:`wait_until_ready`.
        """
        process = self._identity(name)
        process.signal_group(number)
        return process.pid

    def wait_until_ready(self, name: str, *, not_pid: int | None = None, seconds: float = 30.0) -> int:
        """Waits until a process is ready, as another than `not_pid` if given; returns its pid."""

        def ready() -> bool:
            record = self.processes.get(name, {})
            return record.get("state") == "ready" and record.get("pid") != not_pid

        if not _within(seconds, ready):
            path = self.state.log(name)
            raise NotReady(f"{name} was not ready after {seconds:.0f} s; its log is {path}", tail(path))
        return self.pid(name)

    def restart(self, name: str) -> int:
        """Stops a process gracefully and waits until it is ready again; returns its new pid."""
        record = self.processes.get(name, {})
        return self.wait_until_ready(name, not_pid=self.kill(name, record.get("stop_signal", signal.SIGTERM)))

    def _identity(self, name: str) -> ProcessId:
        if not self.running():
            raise Unavailable("the system is not up: make up")
        records = self.processes
        if name not in records:
            raise Unavailable(f"there is no process {name}; there are {', '.join(sorted(records))}")
        return ProcessId(records[name]["pid"], records[name]["started"])

    def _wait_while_changing(self) -> None:
        """A supervisor whose starter was killed may still be starting, or one may be on its way out."""

        def settled() -> bool:
            running = self.running()
            return running is None or running.phase == "up"

        if not _within(_STOP_SECONDS, settled):
            raise Unavailable("the system is neither up nor down: python -m deploy.local down")

    def _launch(self, listener: Listener, *, tied: bool) -> None:
        command = [sys.executable, "-m", "deploy.local", "supervise", "--state-dir", str(self.state.root)]
        command += ["--port-base", str(self.ports.base), "--only", ",".join(self._only), *(["--tied"] if tied else [])]
        with open_log(self.state.log("supervisor")) as log:
            self._supervisor = child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environment},
                cwd=ROOT,
                start_new_session=True,
                text=True,
            )
        if child.stdout is None:
            raise AssertionError  # it was asked for
        try:
            self._follow(child.stdout, listener)
        except BaseException:
            # Also on Ctrl-C: who gives up waiting wants nothing left behind.
            child.terminate()
            self._release()
            raise

    def _release(self) -> None:
        """Lets go of the supervisor that we started and that has ended or is about to."""
        child, self._supervisor = self._supervisor, None
        if child is not None:
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()

    def _follow(self, events: IO[str], listener: Listener) -> None:
        for line in events:
            event = Event.decode(line)
            listener(event)
            if event.step == "system" and event.state == "failed":
                raise LocalError(event.message, event.log_tail)
            if event.step == "system" and event.state == "done":
                events.close()
                return
        path = self.state.log("supervisor")
        raise NotReady(f"the supervisor ended unexpectedly; its log is {path}", tail(path))


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
