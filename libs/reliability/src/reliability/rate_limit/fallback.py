"""What holds while Redis does not answer: each policy's own choice."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final, assert_never

from reliability.rate_limit.policy import MICROSECONDS, Policy, WhenDown
from reliability.rate_limit.script import windowed
from reliability.rate_limit.standing import Standing

__all__ = ["Fallback"]

# Subjects counted in this process. Each costs about 200 bytes, and an attacker can make up any number of them.
_SUBJECTS: Final = 10_000
# Long enough for a restart or a failover, short enough to be back soon.
_DENIED: Final = 5 * MICROSECONDS


class Fallback:
    """Counts in this process, in microseconds of `clock`, which gives seconds and never goes back."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        # A counter and the end of its window, or an arrival time twice.
        self._kept: dict[str, tuple[int, int]] = {}

    def decide(self, keys: Sequence[str], policies: Sequence[Policy], cost: int) -> list[Standing]:
        """What the script does, by the share of this process; or what the policies say instead."""
        now = int(self._clock() * MICROSECONDS)
        standings = [self._look(key, policy, cost, now) for key, policy in zip(keys, policies, strict=True)]
        if any(standing.refuses for standing in standings):
            return standings
        return [
            self._charge(key, standing, cost, now) if standing.admits and _arrives(standing.policy) else standing
            for key, standing in zip(keys, standings, strict=True)
        ]

    def _look(self, key: str, policy: Policy, cost: int, now: int) -> Standing:
        match policy.when_down:
            case WhenDown.ALLOW:
                return Standing(policy, admits=True, remaining=None, reset=0, wait=0)
            case WhenDown.DENY:
                return Standing(policy, admits=False, remaining=None, reset=0, wait=_DENIED)
            case WhenDown.SHARE if windowed(policy):
                return self._count(key, policy, cost, now)
            case WhenDown.SHARE:
                return self._arrive(key, policy, cost, now)
            case _:
                assert_never(policy.when_down)

    def _count(self, key: str, policy: Policy, cost: int, now: int) -> Standing:
        count, end = self._kept.get(key, (0, 0))
        if end <= now:
            count, end = 0, now + policy.window * MICROSECONDS
        count += cost
        self._keep(key, count, end, now)
        left = self._share(policy.quota) - count
        return Standing(policy, left >= 0, max(0, left), end - now, 0 if left >= 0 else end - now)

    def _arrive(self, key: str, policy: Policy, cost: int, now: int) -> Standing:
        interval, capacity = self._pace(policy)
        arrival = max(self._kept.get(key, (0, 0))[0], now)
        wait = max(0, min(arrival + cost * interval - now - capacity, capacity))
        return _standing(policy, arrival, interval, capacity, now, wait)

    def _charge(self, key: str, standing: Standing, cost: int, now: int) -> Standing:
        interval, capacity = self._pace(standing.policy)
        arrival = max(self._kept.get(key, (0, 0))[0], now) + cost * interval
        self._keep(key, arrival, arrival, now)
        return _standing(standing.policy, arrival, interval, capacity, now, 0)

    def _pace(self, policy: Policy) -> tuple[int, int]:
        """Interval and capacity of this process's share, in microseconds."""
        interval = -(-policy.window * MICROSECONDS // self._share(policy.quota))
        return interval, interval * self._share(policy.at_once)

    def _share(self, quota: int) -> int:
        """Rounded up, so at least one: many processes together may let a few more through, but none lets nobody."""
        return -(-quota // self._processes)

    def _keep(self, key: str, value: int, end: int, now: int) -> None:
        if key not in self._kept:
            self._make_room(now)
        self._kept[key] = (value, end)

    def _make_room(self, now: int) -> None:
        """Forgets what is over and, when that is not enough, the tenth that was counted first."""
        if len(self._kept) < _SUBJECTS:
            return
        live = {name: kept for name, kept in self._kept.items() if kept[1] > now}
        if len(live) >= _SUBJECTS:
            live = dict(itertools.islice(live.items(), _SUBJECTS // 10, None))
        self._kept = live


def _arrives(policy: Policy) -> bool:
    return policy.when_down is WhenDown.SHARE and not windowed(policy)


def _standing(policy: Policy, arrival: int, interval: int, capacity: int, now: int, wait: int) -> Standing:
    left = (capacity - (arrival - now)) // interval
    reset = arrival - now - capacity + (left + 1) * interval if arrival > now else 0
    return Standing(policy, not wait, left, reset, wait)
