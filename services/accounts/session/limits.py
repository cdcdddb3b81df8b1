"""How often somebody may try, by where they come from and by whom they claim to be."""

import hashlib
from dataclasses import replace
from typing import Final

from opentelemetry import metrics

from reliability.errors import RateLimited
from reliability.logging import get_logger
from reliability.rate_limit import LOGIN, RESET, SIGNUP, Policy, RateLimiter, client_key
from reliability.redis import Cache, CacheUnavailable

__all__ = ["Guard", "subject_key"]

_ROTATION: Final = 5
_log = get_logger(__name__)
_suspected = metrics.get_meter("holdfast").create_counter(
    "holdfast.abuse.suspected", description="What looks like getting around a rate limit, by kind"
)


def subject_key(email: str) -> str:
    """An account by its address, hashed: Redis need not know who our customers are."""
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()


class Guard:
    """Limits a client and an account together, and notices who goes through accounts."""

    def __init__(self, cache: Cache, limiter: RateLimiter) -> None:
        self._cache = cache
        self._limiter = limiter

    async def login(self, client: str, email: str) -> dict[str, str]:
        """Raises `RateLimited`; the RateLimit fields."""
        return await self._check(LOGIN, client, email)

    async def signup(self, client: str, email: str) -> dict[str, str]:
        """Raises `RateLimited`; the RateLimit fields."""
        return await self._check(SIGNUP, client, email)

    async def reset(self, client: str, email: str) -> dict[str, str]:
        """Raises `RateLimited`; the RateLimit fields."""
        return await self._check(RESET, client, email)

    async def one(self, policy: Policy, subject: str) -> dict[str, str]:
        """A limit of its own. Raises `RateLimited`; the RateLimit fields."""
        return await self._limiter.check([(policy, subject)])

    async def _check(self, policy: Policy, client: str, email: str) -> dict[str, str]:
        by_client = replace(policy, name=f"{policy.name}-client")
        by_account = replace(policy, name=f"{policy.name}-account")
        limits = [(by_client, client_key(client)), (by_account, subject_key(email))]
        try:
            return await self._limiter.check(limits)
        except RateLimited as refused:
            if by_client.name in refused.extensions["violated-policies"]:
                await self._watch(by_client, client_key(client), subject_key(email))
            raise

    async def _watch(self, policy: Policy, client: str, subject: str) -> None:
        """Counts the accounts that one client was refused for: many of them are no forgotten password."""
        key = f"refused:{policy.name}:{client}"

        async def count(client_: object) -> int:
            async with client_.pipeline(transaction=True) as pipeline:  # type: ignore[attr-defined]
                answers = await pipeline.sadd(key, subject).expire(key, policy.window).scard(key).execute()
            return int(answers[0]) and int(answers[2])

        try:
            accounts = await self._cache.run("refused accounts", count)
        except CacheUnavailable:
            return
        if accounts >= _ROTATION:
            _suspected.add(1, {"kind": "rotating_accounts"})
            _log.warning(
                "suspected_abuse", kind="rotating_accounts", policy=policy.name, accounts=accounts, client=client
            )
