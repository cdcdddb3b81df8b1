"""A request counted against its limits, in Valkey."""

from typing import Final

import limits
import limits.aio.storage
import limits.aio.strategies
import pyrate_limiter

from bench.reliability.harness import Comparison, Contender, Floor, Role, repeated
from bench.reliability.stage import Stage, named
from reliability.rate_limit import Algorithm, Policy, RateLimiter

__all__ = ["comparisons"]

# So that nothing is refused while it is measured.
QUOTA: Final = 1_000_000
WINDOW: Final = 900
CLIENT: Final = Policy("client", QUOTA, WINDOW)
ACCOUNT: Final = Policy("account", QUOTA, WINDOW)
PACED: Final = Policy("paced", QUOTA, WINDOW, Algorithm.GCRA)
BARE: Final = "bare EVALSHA"

# Makes the same calls and answers as much, but decides nothing.
_FLOOR: Final = """
local answer = {}
for i, key in ipairs(KEYS) do
  answer[4 * i] = redis.call('INCRBY', key, ARGV[1])
  answer[4 * i - 1] = redis.call('PTTL', key)
  answer[4 * i - 2], answer[4 * i - 3] = 0, 0
end
return answer
"""


async def comparisons(stage: Stage) -> list[Comparison]:
    """One limit, two at once, and GCRA."""
    limiter = RateLimiter(stage.cache())

    def ours(name: str, *policies: Policy) -> Contender:
        asked = [(policy, "me") for policy in policies]

        async def check() -> None:
            await limiter.check(asked)

        return Contender(name, Role.OURS, repeated(check))

    return [
        Comparison(
            "rate limit: one limit",
            "One fixed window per subject; pyrate-limiter has none and keeps a log of instants instead. Peers over "
            "redis-py with hiredis; what they answer is yes or no, ours are the RateLimit fields as well.",
            [ours("RateLimiter.check", CLIENT), _limits(stage, "a"), await _pyrate(stage), await _bare(stage, "one")],
            [Floor(BARE, 1.3)],
        ),
        Comparison(
            "rate limit: two limits at once",
            "Client and account. Ours are one round trip; limits makes one for each.",
            [ours("RateLimiter.check", CLIENT, ACCOUNT), _limits(stage, "a", "b"), await _bare(stage, "one", "two")],
            [Floor(BARE, 1.3)],
        ),
        Comparison(
            "rate limit: GCRA and a fixed window",
            "Against the floor of two fixed windows.",
            [ours("RateLimiter.check", PACED, ACCOUNT), await _bare(stage, "one", "two")],
            [Floor(BARE, 1.3)],
        ),
    ]


async def _bare(stage: Stage, *keys: str) -> Contender:
    client = stage.client()
    sha = await client.script_load(_FLOOR)
    arguments = [argument for _ in keys for argument in ("f", QUOTA, WINDOW * 1000)]
    names = [f"floor:{key}" for key in keys]

    async def call() -> None:
        await client.evalsha(sha, len(names), *names, 1, *arguments)

    return Contender(BARE, Role.FLOOR, repeated(call))


def _limits(stage: Stage, *kinds: str) -> Contender:
    storage = limits.aio.storage.RedisStorage(f"async+{stage.redis}", implementation="redispy")
    limiter = limits.aio.strategies.FixedWindowRateLimiter(storage)
    item = limits.RateLimitItemPerSecond(QUOTA, WINDOW)

    async def hit() -> None:
        for kind in kinds:
            await limiter.hit(item, kind, "me")

    return Contender(named("limits"), Role.PEER, repeated(hit))


async def _pyrate(stage: Stage) -> Contender:
    rate = pyrate_limiter.Rate(QUOTA, WINDOW * 1000)
    bucket = await pyrate_limiter.RedisBucket.init([rate], stage.client(), "pyrate")
    limiter = pyrate_limiter.Limiter(bucket)
    stage.closing.callback(limiter.close)

    async def acquire() -> None:
        await limiter.try_acquire_async("me")

    return Contender(named("pyrate-limiter"), Role.PEER, repeated(acquire))
