"""Lets processes die at named points of their code, and finds all of those points.

A test starts its processes with `points.environment`, arms a point, does what leads there and waits for the death:

    points.arm("checkout.ordered")
    ...
    await points.fired("checkout.ordered")
"""

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

from reliability import crash_points

__all__ = ["CrashPoints", "names"]

_POLL_SECONDS = 0.02


class CrashPoints:
    """The points of one system, armed by files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the processes must be started with."""
        return {"CRASH_POINTS": str(self._folder)}

    def arm(self, name: str) -> None:
        """Lets the next process that passes `name` die there."""
        crash_points.arm(self._folder, name)

    def disarm(self) -> None:
        """Lets nobody die any more."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def armed(self) -> set[str]:
        """Where nobody has died yet."""
        return {path.name for path in self._folder.iterdir()}

    async def fired(self, name: str, *, seconds: float = 30.0) -> None:
        """Returns when a process dies at `name`. Raises `TimeoutError` when none has passed in time."""
        try:
            async with asyncio.timeout(seconds):
                while name in self.armed():  # noqa: ASYNC110 - who dies tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"waited {seconds:.0f} s, and no process passed {name}") from None


def names(*sources: Path) -> dict[str, str]:
    """Every point in the Python files under `sources`, and where it is.

    Raises `ValueError` for a name that is not a literal, or that two places share.
    """
    found: dict[str, str] = {}
    for file in sorted(file for source in sources for file in source.rglob("*.py")):
        for call in _calls(ast.parse(file.read_text())):
            place = f"{file}:{call.lineno}"
            match call:
                case ast.Call(args=[ast.Constant(value=str(name))], keywords=[]):
                    if name in found:
                        raise ValueError(f"{name} is at {found[name]} and at {place}")
                    found[name] = place
                case _:
                    raise ValueError(f"the crash point at {place} is not named by a literal")
    return found


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="crash_point") | ast.Attribute(attr="crash_point")):
                yield node
            case _:
                pass
