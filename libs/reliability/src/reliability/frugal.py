"""Importing a package without what it would take along for the looks of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["without"]


@contextmanager
def without(name: str) -> Iterator[None]:
    """Hides a package from the imports of the block, which find it missing whether it is installed or not.

    For optional dependencies that a service has no use for: a process keeps what it has imported for as long as it
    lives.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None is what hides one
    before = modules.get(name)
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]
        if before is not None:
            modules[name] = before
