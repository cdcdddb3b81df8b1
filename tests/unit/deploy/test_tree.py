"""The tree of a trace: every span is drawn once, below what caused it, whatever the spans say."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.local.demo.report import Report
from deploy.local.demo.tree import Node, build

Json = dict[str, Any]


def span(
    name: str, parent: str | None = None, *, at: str = "00", links: Sequence[tuple[str, str]] = (), service: str = "s"
) -> Json:
    """A span as the API answers it: its id is its name, `links` are (trace, span)."""
    return {
        "span_id": name,
        "parent_id": parent,
        "service": service,
        "name": name,
        "kind": "internal",
        "start": f"2026-11-01T12:00:{at}Z",
        "duration_ms": 1.0,
        "status": "unset",
        "attributes": {},
        "links": [{"trace_id": trace, "span_id": other} for trace, other in links],
        "events": [],
    }


def trace(name: str, *spans: Json) -> Json:
    return {"trace_id": name, "spans": list(spans)}


def shape(roots: list[Node]) -> Any:
    """Names in lists: a node and what is below it; a linked one has an arrow."""
    return [(("~" if node.linked else "") + node.name, shape(node.children)) for node in roots]


def names(roots: list[Node]) -> list[str]:
    return [name for node in roots for name in (node.name, *names(node.children))]


def drawn(roots: list[Node]) -> list[str]:
    """The lines of the drawing."""
    text = io.StringIO()
    Report(Console(file=text, width=100)).tree(roots)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_children_are_below_their_parents_in_the_order_they_started() -> None:
    """However the spans are listed."""
    roots = build(
        [
            trace(
                "t",
                span("third", "root", at="03"),
                span("first", "root", at="01"),
                span("root"),
                span("below", "first", at="02"),
            )
        ]
    )
    assert shape(roots) == [("root", [("first", [("below", [])]), ("third", [])])]


def test_a_deep_trace_is_drawn_a_line_a_span() -> None:
    """Also where there is little room: a name that is broken is not found by whoever searches for it."""
    deep = [f"a step of some length, number {number:02}" for number in range(30)]
    spans = [span(name, deep[number - 1] if number else None) for number, name in enumerate(deep)]
    lines = drawn(build([trace("t", *spans)]))
    assert len(lines) == len(deep)
    assert all(name in line for name, line in zip(deep, lines, strict=True))


def test_nothing_is_no_tree() -> None:
    """No trace, and a trace without spans."""
    assert build([]) == []
    assert build([trace("t")]) == []


def test_a_whole_second_is_before_its_fractions() -> None:
    """As times, not as texts: `01.5Z` sorts before `01Z`."""
    roots = build([trace("t", span("late", at="01.500000"), span("early", at="01"), span("last", at="02"))])
    assert [root.name for root in roots] == ["early", "late", "last"]


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    """The client's own span, or one that was never sent; what is below it stays below it."""
    roots = build([trace("t", span("orphan", "gone", at="01"), span("child", "orphan", at="02"), span("root"))])
    assert shape(roots) == [("root", []), ("orphan", [("child", [])])]


def test_a_child_that_starts_before_its_parent_stays_its_child() -> None:
    """Clocks differ."""
    assert shape(build([trace("t", span("child", "parent", at="01"), span("parent", at="05"))])) == [
        ("parent", [("child", [])])
    ]


def test_a_linked_trace_hangs_below_the_span_that_caused_it() -> None:
    """The job below the click, marked; its own spans below it, unmarked."""
    roots = build(
        [
            trace("job", span("process", at="05", links=[("click", "enqueue")]), span("record", "process", at="06")),
            trace("click", span("checkout"), span("enqueue", "checkout", at="01")),
        ]
    )
    assert shape(roots) == [("checkout", [("enqueue", [("~process", [("record", [])])])])]


def test_links_are_followed_through_several_traces() -> None:
    """Click, webhook, job and mail are one story."""
    roots = build(
        [
            trace("mail", span("send", at="09", links=[("job", "enqueue")])),
            trace("job", span("process", at="05", links=[("hook", "receive")]), span("enqueue", "process", at="06")),
            trace("hook", span("receive", at="03")),
        ]
    )
    assert shape(roots) == [("receive", [("~process", [("enqueue", [("~send", [])])])])]


def test_the_first_link_that_is_known_counts() -> None:
    """A link out of what we see leads nowhere; with none that does not, the span is a root."""
    roots = build(
        [
            trace("job", span("process", at="05", links=[("elsewhere", "x"), ("click", "b"), ("click", "a")])),
            trace("click", span("a"), span("b", at="01")),
            trace("lost", span("alone", at="09", links=[("elsewhere", "x")])),
        ]
    )
    assert shape(roots) == [("a", []), ("b", [("~process", [])]), ("alone", [])]


def test_a_parent_goes_before_a_link() -> None:
    """A span inside its trace stays there."""
    roots = build(
        [trace("t", span("root"), span("child", "root", at="02", links=[("u", "other")])), trace("u", span("other"))]
    )
    assert ("root", [("child", [])]) in shape(roots)


def test_one_span_id_in_two_traces_is_two_spans() -> None:
    """An id is unique in its trace only; parents and links say which trace they mean."""
    roots = build(
        [
            trace("t", span("same"), span("in-t", "same", at="01")),
            trace("u", span("same", at="02"), span("in-u", "same", at="03")),
            trace("v", span("job", at="04", links=[("u", "same")])),
        ]
    )
    assert shape(roots) == [("same", [("in-t", [])]), ("same", [("in-u", []), ("~job", [])])]


@pytest.mark.parametrize(
    "traces",
    [
        pytest.param([trace("t", span("a", "a"))], id="its own parent"),
        pytest.param([trace("t", span("a", "b"), span("b", "a", at="01"))], id="two parents"),
        pytest.param([trace("t", span("a", "c"), span("b", "a", at="01"), span("c", "b", at="02"))], id="three"),
        pytest.param([trace("t", span("a", links=[("t", "a")]))], id="linked to itself"),
        pytest.param([trace("t", span("a", links=[("t", "b")]), span("b", "a", at="01"))], id="linked to its child"),
        pytest.param(
            [trace("t", span("a", links=[("u", "b")])), trace("u", span("b", at="01", links=[("t", "a")]))],
            id="two traces linked to one another",
        ),
        pytest.param(
            [
                trace("t", span("a", "b", at="02", links=[("u", "c")]), span("b", "a")),
                trace("u", span("c", at="01", links=[("t", "a")])),
            ],
            id="parents and links",
        ),
    ],
)
def test_a_circle_is_opened_and_nothing_is_lost(traces: list[Json]) -> None:
    """Drawing ends, and every span is in the drawing once."""
    roots = build(traces)
    assert sorted(names(roots)) == sorted(span["name"] for trace in traces for span in trace["spans"])
    assert len(drawn(roots)) == sum(len(trace["spans"]) for trace in traces)


_NAMES = st.sampled_from("abcdef")
_PLACES = st.tuples(st.sampled_from("tuv"), _NAMES)


@given(
    st.dictionaries(
        _PLACES,
        st.tuples(st.none() | _NAMES, st.lists(_PLACES, max_size=2), st.integers(0, 5)),
        max_size=12,
    )
)
def test_whatever_spans_say_each_is_drawn_once(spans: dict[tuple[str, str], tuple[Any, Any, int]]) -> None:
    """Any parents, any links, any clocks: as many nodes as spans, and an end."""
    traces = [
        trace(
            where,
            *(
                span(name, parent, links=links, at=f"0{at}")
                for (of, name), (parent, links, at) in spans.items()
                if of == where
            ),
        )
        for where in "tuv"
    ]
    assert sorted(names(build(traces))) == sorted(name for _, name in spans)


def test_a_tree_knows_its_services() -> None:
    """All of them, linked ones too."""
    roots = build(
        [
            trace("t", span("a", service="gateway"), span("b", "a", at="01", service="orders")),
            trace("u", span("c", at="02", links=[("t", "b")], service="notifications")),
        ]
    )
    assert [root.services() for root in roots] == [{"gateway", "orders", "notifications"}]


def test_a_long_chain_is_built() -> None:
    """Five thousand spans, each the parent of the next: building takes no stack."""
    spans = [span(f"s{n:04}", f"s{n - 1:04}" if n else None) for n in range(5000)]
    (root,) = build([trace("t", *spans)])
    depth, node = 1, root
    while node.children:
        (node,) = node.children
        depth += 1
    assert depth == 5000


def test_the_drawing_says_who_did_what_for_how_long() -> None:
    """One line for each span, indented, with an arrow where a link was followed."""
    roots = build(
        [
            trace("t", span("POST /api/checkout", service="orders")),
            trace("u", span("job send", at="01", links=[("t", "POST /api/checkout")], service="notifications")),
        ]
    )
    assert drawn(roots) == ["orders POST /api/checkout 1.0 ms", "└── ⤷ linked notifications job send 1.0 ms"]
