"""Named places where a test may let this process die as if the power had gone: at once, and nothing is cleaned up.

    crash_point("checkout.ordered")

Nothing happens until `enable` was given a folder, which a service does once, at its start, from its setting
`crash_points`; that setting is refused in production. From then on a process that passes a point whose name is a file
in the folder removes the file and kills itself. Its successor finds no file and passes.
"""

import os
import signal
from pathlib import Path

__all__ = ["arm", "crash_point", "enable"]

_folder: Path | None = None


def enable(folder: Path | None) -> None:
    """Makes this process die at the points that are armed in `folder`; None makes it pass them all."""
    global _folder  # noqa: PLW0603 - one process has one life
    _folder = folder


def arm(folder: Path, name: str) -> None:
    """Lets the next process that passes `name` die there."""
    (folder / name).touch()


def crash_point(name: str) -> None:
    """Dies here when asked to; a comparison otherwise."""
    if _folder is not None:
        _pass(_folder / name)


def _pass(order: Path) -> None:
    try:
        order.unlink()  # whoever removes it dies of it
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
