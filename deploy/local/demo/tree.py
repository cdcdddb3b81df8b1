"""Spans to trees: children under their parents, and a trace that was linked to a span under that span."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Node", "build"]

# A span's id is unique in its trace only (W3C Trace Context, section 3.2.2.4).
_Id = tuple[str, str]


@dataclass(slots=True)
class Node:
    """A span with what happened during it, `events`, and below it."""

    span_id: str
    service: str
    name: str
    start: str
    duration_ms: float
    linked: bool = False
    events: list[str] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    def services(self) -> set[str]:
        """Every service in the tree."""
        return {self.service}.union(*(child.services() for child in self.children))


def build(traces: Iterable[dict[str, Any]]) -> list[Node]:
    """Trees of the given traces, as `/api/admin/traces/{id}` answers them; oldest first.

    A span whose parent is unknown is a root; a root with a link to a known span hangs below that span. Every span is
    in a tree, once: where parents or links run in a circle, its latest step is not followed.
    """
    spans = {(trace["trace_id"], span["span_id"]): span for trace in traces for span in trace["spans"]}
    nodes = {
        key: Node(
            span["span_id"],
            span["service"],
            span["name"],
            span["start"],
            span["duration_ms"],
            events=[_told(event) for event in span["events"]],
        )
        for key, span in spans.items()
    }
    above: dict[_Id, _Id] = {}
    roots: list[Node] = []

    def known(key: _Id, candidate: _Id) -> bool:
        return candidate in nodes and not _closes_a_circle(nodes[key], key, candidate, above)

    # Text is not in order: a whole second has no fraction to compare.
    for key, span in sorted(spans.items(), key=lambda item: datetime.fromisoformat(item[1]["start"])):
        caller = (key[0], span["parent_id"] or "")
        links = ((link["trace_id"], link["span_id"]) for link in span["links"])
        parent = next((candidate for candidate in (caller, *links) if known(key, candidate)), None)
        nodes[key].linked = parent not in {None, caller}
        if parent is None:
            roots.append(nodes[key])
        else:
            above[key] = parent
            nodes[parent].children.append(nodes[key])
    return roots


def _told(event: dict[str, Any]) -> str:
    """An event in one line: when, what, and its particulars."""
    particulars = "".join(f" {name}={value}" for name, value in event["attributes"].items())
    return f"after {event['after_ms']:.1f} ms: {event['name']}{particulars}"


def _closes_a_circle(node: Node, key: _Id, parent: _Id, above: dict[_Id, _Id]) -> bool:
    """Whether `parent` is the span itself or hangs below it; below a span without children nothing does."""
    return parent == key or (bool(node.children) and key in _upwards(parent, above))


def _upwards(key: _Id, above: dict[_Id, _Id]) -> Iterator[_Id]:
    while key in above:
        key = above[key]
        yield key
