"""What the demonstration prints: each promise, what was observed, the trace, and where to look next."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local.demo.tree import Node
from deploy.local.endpoints import Endpoints

__all__ = ["Report"]


@dataclass(slots=True)
class Report:
    """Collects verdicts; the first broken promise decides the exit status."""

    console: Console
    kept: list[tuple[str, str, bool]] = field(default_factory=list)
    correlation_id: str = ""

    def step(self, text: str) -> None:
        """Says what happens now."""
        self.console.print(f"[dim]·[/dim] {text}", soft_wrap=True)

    def promise(self, promise: str, expected: Any, observed: Any) -> None:
        """Compares what was promised with what was seen."""
        seen = "none is missing" if observed == set() else f"{observed}"
        words = seen if expected == observed else f"{observed}, expected {expected}"
        self.kept.append((promise, words, expected == observed))

    def tree(self, roots: list[Node]) -> None:
        """Draws the traces of the purchase."""
        for root in roots:
            for line in _lines(root):  # a terminal wraps what it has no room for; names that we break are not found
                self.console.print(line, soft_wrap=True)

    def finish(self, endpoints: Endpoints) -> int:
        """Prints the verdicts; 0 when every promise was kept."""
        table = Table("", "promise", "observed", title="What was promised, and what was seen", title_justify="left")
        for promise, words, kept in self.kept:
            table.add_row("[green]✓[/green]" if kept else "[red]✗[/red]", promise, words)
        self.console.print(table)
        broken = sum(not kept for _, _, kept in self.kept)
        self.console.print(
            f"[red]{broken} of {len(self.kept)} promises were broken.[/red]"
            if broken
            else f"[green]All {len(self.kept)} promises were kept.[/green]"
        )
        self.console.print(
            f"\nLook next:  mail {endpoints.mailbox}/   Stripe sandbox {endpoints.stripe_sandbox}/   "
            f"shop {endpoints.gateway}/api/products\n"
            f"            make trace ID={self.correlation_id}   make logs CORRELATION={self.correlation_id}   "
            "make down",
            soft_wrap=True,
        )
        return 1 if broken or not self.kept else 0


def _lines(node: Node, here: str = "", below: str = "") -> Iterator[str]:
    """A span, then what happened during it and what hangs below it; `here` and `below` are what stands before them."""
    linked = "[dim]⤷ linked[/dim] " if node.linked else ""
    yield f"{here}{linked}[bold]{escape(node.service)}[/bold] {escape(node.name)} [dim]{node.duration_ms:.1f} ms[/dim]"
    parts: list[str | Node] = [*node.events, *node.children]
    for place, part in enumerate(parts, start=1):
        branch, bar = ("└── ", "    ") if place == len(parts) else ("├── ", "│   ")
        if isinstance(part, Node):
            yield from _lines(part, below + branch, below + bar)
        else:
            yield f"{below}{branch}[yellow]{escape(part)}[/yellow]"
