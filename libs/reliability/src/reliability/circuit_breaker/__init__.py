"""A circuit breaker: after a few failures a dependency is not asked for a while, and then carefully.

    closed ──too many failures──> open ──time is up, next call──> half-open ──successes──> closed
                                    ^──────────────first failure───────┘
    force_open() and disable() hold it from any state until reset().

It is there so that a dependency that hangs costs three calls their time and not all, and gets the rest it needs to
come back. `circuit_breaker.sharing` tells other processes through Redis. Sources: Michael Nygard, "Release It!",
2nd edition, chapter 5; half-open permits, rates and manual states after https://resilience4j.readme.io/docs/circuitbreaker
"""

from reliability.circuit_breaker.breaker import CircuitBreaker, breakers, watching
from reliability.circuit_breaker.model import Permit, Snapshot, State
from reliability.circuit_breaker.rules import CircuitOpen, Judge, Outcome, Rules, judge

__all__ = [
    "CircuitBreaker",
    "CircuitOpen",
    "Judge",
    "Outcome",
    "Permit",
    "Rules",
    "Snapshot",
    "State",
    "breakers",
    "judge",
    "watching",
]
