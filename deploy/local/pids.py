"""Processes recognised by pid *and* start time, so that a recycled pid is never signalled."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["ProcessId", "stop_all"]


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for ever: pids come round again, (pid, start) does not."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now, if it is alive."""
        started = _started(pid)
        return cls(pid, started) if started else None

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _started(self.pid) == self.started

    def signal_group(self, number: int) -> None:
        """Signals the process and its group; each of ours leads a group of its own."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def stop_all(processes: Sequence[tuple[ProcessId, int]], patience: float) -> None:
    """Sends each process its stop signal and, to those left after `patience` seconds, SIGKILL."""
    left = [process for process, number in processes if process.alive()]
    for process, number in processes:
        process.signal_group(number)
    if not _gone(left, patience):
        for process in left:
            process.signal_group(signal.SIGKILL)
        _gone(left, patience)


def _gone(processes: list[ProcessId], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while any(process.alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _started(pid: int) -> str | None:
    if sys.platform != "linux":
        return _started_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold spaces and brackets; what follows its last bracket is fields 3 and on of proc(5).
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{_boot_id()}:{start_ticks}"


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started_by_ps(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    state, _, started = answer.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
