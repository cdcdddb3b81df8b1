"""How a start looks: a live list on a terminal, one line per step anywhere else."""

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deploy.local.events import Event

__all__ = ["Display", "display"]


class Display(Protocol):
    """Shows events while its context lasts."""

    def __enter__(self) -> Self:
        """Begins to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last picture."""

    def show(self, event: Event) -> None:
        """Takes notice of an event."""


def display() -> Display:
    """The one that suits standard output."""
    return Lively(Console()) if sys.stdout.isatty() else Plain()


class Plain:
    """One line for each step that ended."""

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clean up."""

    def show(self, event: Event) -> None:
        """Prints a step's end; the end of the start as a whole is the caller's to tell."""
        if event.state == "note":
            line = f"  note: {event.message}"
        elif event.step != "system" and event.state == "done":
            line = f"  {event.step:<26} ready in {event.seconds:.1f} s"
        else:
            return
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class Lively:
    """A list that is redrawn: what runs spins, what is done has its time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: dict[str, Event] = {}
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(get_renderable=self._picture, console=console, refresh_per_second=10)

    def __enter__(self) -> Self:
        """Begins to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draws once more and leaves it."""
        self._live.stop()

    def show(self, event: Event) -> None:
        """Takes the step's new state into the next picture."""
        if event.state == "note":
            self._console.print(f"note: {event.message}", style="yellow")
        elif event.step != "system":
            self._steps[event.step] = event

    def _picture(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, event in self._steps.items():
            match event.state:
                case "done":
                    table.add_row(Text("✓", "green"), name, Text(f"{event.seconds:.1f} s", "dim"))
                case "failed":
                    table.add_row(Text("✗", "red"), Text(name, "red"), "")
                case _:
                    table.add_row(self._spinner, name, "")
        return table
