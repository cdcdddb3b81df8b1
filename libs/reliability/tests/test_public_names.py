"""What the library offers by name is there and says what it is."""

import ast
import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import reliability

MODULES = sorted(each.name for each in pkgutil.walk_packages(reliability.__path__, "reliability."))


def documented_values(module: ModuleType) -> set[str]:
    """The names given to values at the top of a module that a text stands under."""
    body = ast.parse(inspect.getsource(module)).body
    found = set()
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str())),
            ):
                found.add(name)
            case _:
                pass
    return found


def definer(module: ModuleType, name: str) -> ModuleType:
    """Where a value comes from that a package only hands on."""
    for statement in ast.parse(inspect.getsource(module)).body:
        match statement:
            case ast.ImportFrom(module=str() as source, names=names) if name in {each.name for each in names}:
                return definer(importlib.import_module(source), name)
            case _:
                pass
    return module


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines."""
    for name, member in vars(owner).items():
        if name.startswith("_"):
            continue
        if inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod):
            yield name, inspect.getattr_static(owner, name)


def silent(module: ModuleType, name: str) -> list[str]:
    """What of a public name has no docstring: itself, or some of its methods."""
    value = getattr(module, name)
    if inspect.isclass(value):
        own = [] if vars(value).get("__doc__") else [name]
        # `getdoc` also finds the text of the method that is overridden
        return own + [f"{name}.{member}" for member, _ in members(value) if not inspect.getdoc(getattr(value, member))]
    if inspect.isroutine(value):
        return [] if value.__doc__ else [name]
    return [] if name in documented_values(definer(module, name)) else [name]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    """A module says what it offers, in `__all__`, and each of it says what it does."""
    module = importlib.import_module(name)
    assert module.__doc__
    offered: list[str] = module.__all__
    assert sorted(set(offered)) == sorted(offered)
    assert [each for each in offered if not hasattr(module, each)] == []
    assert [each for own in offered for each in silent(module, own)] == []


def test_a_name_without_a_docstring_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests above would say nothing."""
    module = importlib.import_module("reliability.deadline")
    monkeypatch.setattr(module, "remaining", lambda: 0)
    assert silent(module, "remaining") == ["remaining"]
    assert silent(importlib.import_module("reliability.redis"), "Cache") == []
