"""The pages of the library do what they say: each block of Python runs, one after the other, as in a notebook."""

import ast
import inspect
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from libs.reliability.tests.support import leaves
from reliability import errors
from reliability.errors import Problem
from reliability.http import HttpClient
from reliability.postgres import Database
from reliability.redis import Cache

if TYPE_CHECKING:
    from conftest import Servers

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def run(page: Path) -> dict[str, Any]:
    """What the blocks of a page leave behind. `await` needs no function around it."""
    text = page.read_text()
    names: dict[str, Any] = {"__name__": page.stem}
    try:
        for block in BLOCK.finditer(text):
            # so that a failure shows the line of the page
            above = "\n" * text.count("\n", 0, block.start(1))
            code = compile(above + block[1], str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                await result
    finally:
        for value in {id(value): value for value in names.values()}.values():
            if isinstance(value, Cache | Database | HttpClient):
                await value.close()
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.stem)
@pytest.mark.usefixtures("cache")  # empties it
async def test_a_page_runs(
    page: Path, servers: "Servers", new_url: Callable[[], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty Redis and a fresh database, whose addresses are where the page looks for them."""
    monkeypatch.setenv("REDIS_URL", servers.endpoints.redis)
    monkeypatch.setenv("DATABASE_URL", await new_url())
    await run(page)


def drawn(kind: type[Problem], before: str = "", *, last: bool | None = None) -> list[str]:
    """An error and what is below it in its own module, as a tree."""
    branch = "" if last is None else "└── " if last else "├── "
    status = "as it came" if kind is errors.RemoteProblem else f"{kind.status}  {kind.grpc}"
    lines = [f"{before}{branch}{kind.__name__}".ljust(35) + status]
    below = sorted((each for each in kind.__subclasses__() if each.__module__ == errors.__name__), key=_order)
    inner = before + ("" if last is None else "    " if last else "│   ")
    for each in below:
        lines += drawn(each, inner, last=each is below[-1])
    return lines


def _order(kind: type[Problem]) -> tuple[bool, int, str]:
    return kind is errors.RemoteProblem, kind.status, kind.__name__


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """On its page, and every name of it at the top of the module."""
    assert "```text\n" + "\n".join(drawn(Problem)) + "\n```" in (PROJECT / "docs" / "errors.md").read_text()
    own = {kind.__name__ for kind in leaves() if kind.__module__ == errors.__name__}
    assert errors.__doc__ is not None
    assert own <= set(re.findall(r"\w+", errors.__doc__))


def test_metrics_of_the_page_are_all_there_are() -> None:
    """Every instrument the library makes has its row, and no row stands for none."""
    made = set()
    for source in (PROJECT / "src").rglob("*.py"):
        made |= set(re.findall(r'(?:Tally|Timing|create_\w+)\(\s*"([\w.]+)"', source.read_text()))
    page = (PROJECT / "docs" / "observability.md").read_text()
    table = page[page.index("## Metrics") :]
    assert set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", table)) == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere_and_extras_exist(page: Path) -> None:
    """Within the library's own pages."""
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"holdfast-reliability\[([\w,]+)\]", text):
        assert set(named.split(",")) <= set(extras)
