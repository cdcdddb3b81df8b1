"""What is known of one limit after a request, and how clients are told."""

from collections.abc import Iterable
from typing import NamedTuple

from reliability.rate_limit.policy import MICROSECONDS, Policy

__all__ = ["Standing", "fields", "seconds"]


class Standing(NamedTuple):
    """One limit, once the request has been counted.

    `remaining` units can be spent at once; None when nobody could count. `reset` is in how many microseconds there
    will be more of them, `wait` in how many this very request would pass; 0 when it does.
    """

    policy: Policy
    admits: bool
    remaining: int | None
    reset: int
    wait: int

    @property
    def refuses(self) -> bool:
        """Whether the request is held off by it: a limit in the shadow holds off nobody."""
        return not self.admits and not self.policy.shadow


def fields(standings: Iterable[Standing]) -> dict[str, str]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4).

    Both are Lists of Items of RFC 9651: the policy's name is a String, the parameters are Integers. A limit in the
    shadow is not advertised, one nobody could count has no RateLimit item, and an empty list is no field.
    """
    policies, limits = [], []
    for policy, _, remaining, reset, _ in standings:
        if policy.shadow:
            continue
        policies.append(f'"{policy.name}";q={policy.quota};w={policy.window}')
        if remaining is not None:
            limits.append(f'"{policy.name}";r={remaining};t={seconds(reset)}')
    named = {"RateLimit-Policy": policies, "RateLimit": limits}
    return {name: ", ".join(items) for name, items in named.items() if items}


def seconds(microseconds: int) -> int:
    """Whole seconds, rounded up: whoever waits so long has not come back too early."""
    return -(-microseconds // MICROSECONDS)
