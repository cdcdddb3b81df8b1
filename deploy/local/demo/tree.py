"""Spans to trees: children under their parents, and a trace that was linked to a span under that span."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Node", "build"]


@dataclass(slots=True)
class Node:
    """A span with what happened below it."""

    span_id: str
    service: str
    name: str
    start: str
    duration_ms: float
    linked: bool = False
    children: list["Node"] = field(default_factory=list)

    def services(self) -> set[str]:
        """Every service in the tree."""
        return {self.service}.union(*(child.services() for child in self.children))


def build(traces: Iterable[dict[str, Any]]) -> list[Node]:
    """Trees of the given traces, as `/api/admin/traces/{id}` answers them; oldest first.

    A span whose parent is unknown is a root; a root with a link to a known span hangs below that span.
    """
    spans = {span["span_id"]: span for trace in traces for span in trace["spans"]}
    nodes = {
        span_id: Node(span_id, span["service"], span["name"], span["start"], span["duration_ms"])
        for span_id, span in spans.items()
    }
    roots: list[Node] = []
    for span_id, span in sorted(spans.items(), key=lambda item: item[1]["start"]):
        node, parent = nodes[span_id], nodes.get(span["parent_id"] or "")
        if parent is None:
            parent = next((nodes[link["span_id"]] for link in span["links"] if link["span_id"] in nodes), None)
            node.linked = parent is not None
        (parent.children if parent else roots).append(node)
    return roots
