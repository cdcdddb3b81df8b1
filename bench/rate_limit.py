"""What a limit and a guarded click cost, each against the bare command below it: `python -m bench.rate_limit`.

Floors: for limits, EVALSHA of a script of the same class, which is given as much, makes the same calls and answers as
much, but decides nothing: through `Cache.run`, whose deadline and breaker every call pays for, and bare. For clicks,
`SET NX EX`. Exit status 1 when a ratio is above its goal.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.__main__ import BATCH, ROUNDS, Comparison, Step, measure
from deploy.local.ports import pick_port_base
from deploy.local.system import System
from reliability.dedup import deduplicate
from reliability.ids import new_id
from reliability.rate_limit import Algorithm, Policy, RateLimiter
from reliability.redis import Cache

# So that nothing is refused while it is measured.
QUOTA: Final = 1_000_000
CLIENT: Final = Policy("client", QUOTA, 900)
ACCOUNT: Final = Policy("account", QUOTA, 900)
PACED: Final = Policy("paced", QUOTA, 900, Algorithm.GCRA)

_FLOOR: Final = """
local answer, time = {}, nil
for i, key in ipairs(KEYS) do
  if ARGV[3 * i - 1] == 'f' then
    answer[4 * i] = redis.call('INCRBY', key, ARGV[1])
    answer[4 * i - 1] = redis.call('PTTL', key)
  else
    time = time or redis.call('TIME')
    redis.call('GET', key)
    redis.call('SET', key, time[2], 'PX', ARGV[3 * i])
    answer[4 * i], answer[4 * i - 1] = 0, 0
  end
  answer[4 * i - 2], answer[4 * i - 3] = 0, 0
end
return answer
"""


async def comparisons(cache: Cache) -> list[Comparison]:
    """What is compared."""
    limiter = RateLimiter(cache)
    sha = await cache.client.script_load(_FLOOR)

    def bare(*kinds: str) -> Step:
        keys = [f"floor:{kind}:{n}" for n, kind in enumerate(kinds)]
        arguments = [argument for kind in kinds for argument in (kind, QUOTA, 900_000)]

        async def call() -> None:
            await cache.client.evalsha(sha, len(keys), *keys, 1, *arguments)

        return call

    def through_cache(*kinds: str) -> Step:
        call = bare(*kinds)

        async def run() -> None:
            await cache.run("bench", lambda _client: call())

        return run

    def checked(*policies: Policy) -> Step:
        limits = [(policy, "me") for policy in policies]

        async def check() -> None:
            await limiter.check(limits)

        return check

    one, two = checked(CLIENT), checked(CLIENT, ACCOUNT)
    paced, mixed = checked(PACED), checked(PACED, ACCOUNT)

    async def bare_set() -> None:
        await cache.client.set(new_id(), "owner", nx=True, ex=60)

    async def click() -> None:
        async with deduplicate(cache, "bench", {"id": new_id()}):
            pass

    return [
        Comparison("one limit / Cache.run(EVALSHA)", one, through_cache("f"), 1.3),
        Comparison("two limits / Cache.run(EVALSHA)", two, through_cache("f", "f"), 1.3),
        Comparison("GCRA / Cache.run(EVALSHA)", paced, through_cache("g"), 1.3),
        Comparison("GCRA and fixed / Cache.run(EVALSHA)", mixed, through_cache("g", "f"), 1.3),
        Comparison("two limits / bare EVALSHA", two, bare("f", "f"), 1.6),
        Comparison("GCRA and fixed / bare EVALSHA", mixed, bare("g", "f"), 1.6),
        Comparison("two limits / one limit", two, one, 1.3),
        Comparison("deduplicate / bare SET NX EX", click, bare_set, 1.4),
    ]


async def run(redis: str, console: Console) -> int:
    """Measures everything and prints the table."""
    cache = Cache(redis)
    table = Table("comparison", "ratio", "goal", title=f"medians of {ROUNDS} rounds of {BATCH}")
    missed = 0
    for comparison in await comparisons(cache):
        ratio = await measure(comparison)
        missed += ratio > comparison.goal
        table.add_row(comparison.name, f"{ratio:.2f}", f"<= {comparison.goal}")
    console.print(table)
    await cache.close()
    return 1 if missed else 0


def main() -> None:
    """Starts its own server, so that nothing else is disturbed."""
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base(), only=("valkey",)) as system,
    ):
        status = asyncio.run(run(system.endpoints.redis, Console()))
    sys.exit(status)


if __name__ == "__main__":
    main()
