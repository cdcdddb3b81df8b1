"""`python -m bench.reliability [GROUP...] [--write]`: measures, prints tables, exits 1 when a goal is missed."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import asyncpg
import uvloop
from rich.console import Console
from rich.progress import Progress

from bench.reliability import breaker, dedup, inbox, jobs, post, rate_limit, retry
from bench.reliability.harness import Comparison, Result, measure
from bench.reliability.report import markdown, terminal
from bench.reliability.stage import Stage
from bench.reliability.telemetry import SAMPLED, observed
from deploy.local.ports import pick_port_base
from deploy.local.system import System

PAGE = Path(__file__).parents[2] / "libs" / "reliability" / "docs" / "benchmarks.md"

Group = Callable[[Stage], Awaitable[list[Comparison]]]
GROUPS: dict[str, Group] = {
    "breaker": breaker.comparisons,
    "retry": retry.comparisons,
    "rate_limit": rate_limit.comparisons,
    "dedup": dedup.comparisons,
    "inbox": inbox.comparisons,
    "jobs": jobs.comparisons,
    "claims": jobs.claims,
    "post": post.comparisons,
}


async def run(stage: Stage, groups: Sequence[str], console: Console, *, write: bool) -> list[Result]:
    """One group after the other; the contenders of a comparison take turns. What is measured is written at once."""
    results = []
    servers = await _servers(stage)
    for name in groups:
        for comparison in await GROUPS[name](stage):
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(comparison.title, total=comparison.rounds)
                result = await measure(comparison, partial(progress.advance, task))
            console.print(terminal(result))
            results.append(result)
        if write:
            PAGE.write_text(markdown(results, servers))
    return results


async def _servers(stage: Stage) -> str:
    connection = await asyncpg.connect(stage.postgres)
    postgres = await connection.fetchval("SHOW server_version")
    await connection.close()
    valkey = (await stage.client().info("server"))["valkey_version"]
    return f"PostgreSQL {postgres}, Valkey {valkey} on loopback"


async def main(postgres: str, redis: str, groups: Sequence[str], *, write: bool) -> list[Result]:
    """The results."""
    async with AsyncExitStack() as closing:
        return await run(Stage(postgres, redis, closing), groups, Console(), write=write)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.reliability", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all when none is named")
    parser.add_argument("--write", action="store_true", help="renew the page in the library's docs")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    asked = _arguments()
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base(), only=("postgres", "valkey")) as system,
        observed(SAMPLED),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        where = system.endpoints
        results = runner.run(main(where.postgres, where.redis, asked.groups or list(GROUPS), write=asked.write))
    sys.exit(any(result.missed for result in results))
