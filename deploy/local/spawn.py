"""Starting a child: its own session and group, its output in its log, its end tied to ours."""

import asyncio
import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from deploy.local.errors import NotReady, tail
from deploy.local.identity import before_exec
from deploy.local.specs import Command
from deploy.local.state import ROOT

__all__ = ["exit_code", "open_log", "run_to_end", "spawn"]

_LOG_LIMIT = 5 * 1024 * 1024  # bytes; beyond it a log is put aside when its process starts
_SECONDS_TO_END = 60.0


def open_log(path: Path) -> BinaryIO:
    """The log file, to append to; a long one is moved to `<name>.log.1` first."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def spawn(command: Command, log: Path, death_signal: int) -> subprocess.Popen[bytes]:
    """Starts a child whose output goes to `log`, or where the command says."""
    with ExitStack() as files:
        errors = files.enter_context(open_log(log))
        output = files.enter_context(_truncated(command.output)) if command.output else errors
        return subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(command.environment),
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=before_exec(command.identity, death_signal),  # noqa: PLW1509 - no threads here
        )


async def run_to_end(name: str, command: Command, log: Path) -> None:
    """Runs a command that ends; raises :class:`NotReady` unless it ends well within 60 s."""
    child = spawn(command, log, signal.SIGKILL)
    try:
        async with asyncio.timeout(_SECONDS_TO_END):
            code = await exit_code(child)
    except TimeoutError:
        raise NotReady(f"{name} did not end within {_SECONDS_TO_END:.0f} s; its log is {log}", tail(log)) from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if code:
        raise NotReady(f"{name} failed (exit code {code}); its log is {log}", tail(log))


async def exit_code(child: subprocess.Popen[bytes]) -> int:
    """Waits for the end of a child without a thread per child."""
    try:
        handle = os.pidfd_open(child.pid)
    except (AttributeError, OSError):  # not Linux
        while child.poll() is None:  # noqa: ASYNC110 - nothing tells us here
            await asyncio.sleep(0.1)
        return child.returncode
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return child.wait()


def _truncated(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
