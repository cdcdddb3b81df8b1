"""The state directory: where everything of one system is kept, and who may touch it."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "StateDir"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths of one system, and the few ways its files are read and written."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def tls(self) -> Path:
        """The development CA and what it signed."""
        return self.root / "tls"

    @property
    def data(self) -> Path:
        """What the processes themselves store."""
        return self.root / "data"

    @property
    def endpoints(self) -> Path:
        """For tools and tests."""
        return self.root / "endpoints.json"

    @property
    def secrets(self) -> Path:
        """Random passwords and keys."""
        return self.root / "secrets.json"

    @property
    def session(self) -> Path:
        """The token of a member of staff, for tools to go on with."""
        return self.root / "session.token"

    @property
    def supervisor(self) -> Path:
        """Who runs this system: pid, start time, port base, phase."""
        return self.root / "supervisor.json"

    @property
    def processes(self) -> Path:
        """What the supervisor runs."""
        return self.root / "processes.json"

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Makes the directories. Others may pass through (the database's user must), not look around."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        for path, mode in ((self.logs, 0o700), (self.tls, 0o700), (self.data, 0o711)):
            path.mkdir(exist_ok=True)
            path.chmod(mode)

    def wipe(self) -> None:
        """Removes what we made and nothing else, whichever directory we were given.

        The lock files stay: a waiting process may hold them open.
        """
        for folder in (self.logs, self.tls, self.data):
            if folder.exists():
                shutil.rmtree(folder)
        for path in (self.endpoints, self.secrets, self.session, self.supervisor, self.processes):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Holds `<name>.lock`; yields whether it was got. The kernel lets go of it when its holder dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            yield False
            return
        try:
            yield True
        finally:
            os.close(handle)


def write_private(path: Path, text: str | bytes) -> None:
    """Replaces a file at once, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """As :func:`write_private`, as indented JSON."""
    write_private(path, json.dumps(value, indent=2) + "\n")


def read_text(path: Path) -> str:
    """A file, empty when there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty when there is no such file."""
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return value
