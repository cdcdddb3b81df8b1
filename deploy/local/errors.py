"""What can go wrong for the person who runs this. Every message is one line that says what to do."""

from pathlib import Path

__all__ = ["ConfigurationFailure", "LocalError", "NotReady", "PortInUse", "Unavailable"]


class LocalError(Exception):
    """The root of this package's errors; its text is meant for a person.

    LocalError
     ├─ PortInUse              something else listens where we must
     ├─ NotReady               a process or a step failed; carries the end of its log
     ├─ ConfigurationFailure   the environment or the state directory cannot be used as it is
     └─ Unavailable            the system is not up (or is up elsewhere)
    """

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.log_tail = log_tail


class PortInUse(LocalError):
    """A port that a part of the system needs is taken."""


class NotReady(LocalError):
    """A process or step failed, or was not ready in time."""


class ConfigurationFailure(LocalError):
    """Settings, secrets or data on disk do not fit together."""


class Unavailable(LocalError):
    """The system is not in the state the command needs."""


def tail(path: Path, lines: int = 15) -> tuple[str, ...]:
    """The last `lines` lines of a log file, none if there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 64 * 1024))
            return tuple(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ()
