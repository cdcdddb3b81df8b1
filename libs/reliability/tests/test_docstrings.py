"""What a docstring has to say beyond being there: the errors of a function, the units of its numbers, its sources.

What is asked is what can be read from the source alone: an error that a function raises in its own body, a number
whose name does not carry its unit, a module that writes a word of somebody's specification.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import reliability

ROOT = Path(reliability.__path__[0])
SOURCES = sorted(ROOT.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef
SPECIAL = {"__init__", "__post_init__", "__enter__", "__aenter__", "__exit__", "__aexit__"}
"""Methods nobody calls by name: what they do is in the docstring of their class as well."""

UNITS = re.compile(r"\b(micro|milli|nano)?(second|hour|day|share|token)s?\b", re.IGNORECASE)
SAYS_ITSELF = re.compile(r"(^|_)(seconds|hours|days|bytes|times|ratio|rate)$")
TIMES, SIZES = {"ttl", "window", "lifetime", "cap"}, {"limit", "size", "quota", "burst", "waiting", "concurrency"}
"""Whole numbers that measure something; every fraction does. Of a size it is enough to say what it is the size of."""

WORDS = {
    "application/problem+json": "RFC 9457",
    "bearer": "RFC 6750",
    "eddsa": "RFC 8037",
    "grpc-previous-rpc-attempts": "gRFC A6",
    "grpc-retry-pushback-ms": "gRFC A6",
    "grpc-status-details-bin": "google.rpc",
    "idempotency-key": "draft-ietf-httpapi-idempotency-key-header",
    "nfc": "Unicode Standard Annex 15",
    "openapi": "OpenAPI 3.1",
    "ratelimit": "draft-ietf-httpapi-ratelimit-headers",
    "retry-after": "RFC 9110",
    "traceparent": "W3C",
    "v1": "https://docs.stripe.com/webhooks",
}
"""A word that a module can only have from a specification, and what that is called. Lists of them are just lists."""


@dataclass(frozen=True)
class Documented:
    """A function or a class anybody may use, and all that is written about it."""

    name: str
    node: Function | ast.ClassDef
    text: str


def public(body: list[ast.stmt], owner: str = "", above: str = "") -> Iterator[Documented]:
    """Everything without an underscore, in classes too. A special method may be explained by its class."""
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or (node.name.startswith("_") and node.name not in SPECIAL):
            continue
        name, text = f"{owner}{node.name}", f"{ast.get_docstring(node) or ''}\n{above}"
        yield Documented(name, node, text)
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{name}.", text)


def own(node: ast.AST) -> Iterator[ast.AST]:
    """All of a body but what functions and classes inside of it do at another time."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.ClassDef | ast.Lambda):
            yield child
            yield from own(child)


def raised(function: Function, makers: dict[str, str]) -> set[str]:
    """The classes a body raises by name, or as a helper of the module makes them."""
    found = set()
    for node in own(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = ast.unparse(called).rpartition(".")[2]
            found.add(makers.get(name, name))
    return {name for name in found if name[:1].isupper()}


def unnamed_errors(tree: ast.Module) -> list[str]:
    """Errors that a public function raises and does not name."""
    makers = {
        node.name: ast.unparse(node.returns)
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.returns is not None and node.name.startswith("_")
    }
    return [
        f"{each.name} raises {error}"
        for each in public(tree.body)
        if isinstance(each.node, Function)
        for error in sorted(raised(each.node, makers))
        if not re.search(rf"\b{error}\b", each.text)
    ]


def unmeasured(tree: ast.Module) -> list[str]:
    """Numbers that mean nothing without a unit, and whose docstring names none: what is taken, kept and given back."""
    found = []
    for each in public(tree.body):
        if isinstance(each.node, ast.ClassDef):
            found += [
                f"{each.name}.{name}"
                for name, text in fields(each.node)
                if name not in SIZES and not UNITS.search(each.text + text)
            ]
            continue
        arguments = each.node.args
        for name, annotation in [(one.arg, one.annotation) for one in (*arguments.args, *arguments.kwonlyargs)]:
            told = re.search(rf"\b{name}\b", each.text) and (name in SIZES or UNITS.search(each.text))
            if measures(name, annotation) and not told:
                found.append(f"{each.name}({name})")
        if kind(each.node.returns) == "float" and not UNITS.search(each.text):
            found.append(f"{each.name} -> float")
    return found


def fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The numbers that a class declares, each with the text under it."""
    for field, following in itertools.zip_longest(node.body, node.body[1:]):
        match field, following:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation), below if measures(name, annotation):
                under = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                yield name, ast.unparse(below) if under else ""
            case _:
                pass


def measures(name: str, annotation: ast.expr | None) -> bool:
    """Whether this is a number whose name does not say what it counts."""
    is_number = kind(annotation) == "float" or (kind(annotation) == "int" and name in TIMES | SIZES)
    return is_number and not name.startswith("_") and not SAYS_ITSELF.search(name)


def kind(annotation: ast.expr | None) -> str:
    """A type, or what it is unless it is None."""
    return "" if annotation is None else ast.unparse(annotation).removesuffix(" | None")


def uncited(tree: ast.Module, source: str) -> list[str]:
    """Words of specifications in a module that does not name them."""
    said = {
        part.value.lower().strip()
        for node in ast.walk(tree)
        if not isinstance(node, ast.Expr | ast.List | ast.Tuple | ast.Set)  # an expression that is a text is prose
        for part in ast.iter_child_nodes(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    return [f"{word}: {name}" for word, name in WORDS.items() if word in said and name not in source]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_errors_units_and_sources(path: Path) -> None:
    """Of every module of the library."""
    source = path.read_text()
    tree = ast.parse(source)
    assert unnamed_errors(tree) == []
    assert unmeasured(tree) == []
    assert uncited(tree, source) == []


SILENT = '''
class Cache:
    """Keeps things."""

    age: float = 1.0

    def get(self, ttl: int, timeout: float, size: int) -> float:
        """Something."""
        if ttl:
            raise ValueError("no")
        raise self._refusal()

    def _refusal(self) -> LookupError:
        return LookupError({"retry-after": 1})
'''
TALKATIVE = '''
class Cache:
    """Keeps things. Source: RFC 9110."""

    age: float = 1.0
    """Seconds."""

    def get(self, ttl: int, timeout: float, size: int) -> float:
        """Something of this `size`, in `timeout` seconds, kept for `ttl`. Raises `ValueError` or `LookupError`."""
''' + SILENT.partition('"""Something."""')[2]


def test_what_is_not_said_is_found() -> None:
    """Otherwise the test above would say nothing."""
    tree = ast.parse(SILENT)
    assert unnamed_errors(tree) == ["Cache.get raises LookupError", "Cache.get raises ValueError"]
    assert unmeasured(tree) == [
        "Cache.age",
        "Cache.get(ttl)",
        "Cache.get(timeout)",
        "Cache.get(size)",
        "Cache.get -> float",
    ]
    assert uncited(tree, SILENT) == ["retry-after: RFC 9110"]
    tree = ast.parse(TALKATIVE)
    assert unnamed_errors(tree) == unmeasured(tree) == uncited(tree, TALKATIVE) == []
