"""Trying again: within the deadline, with full jitter, only what may be repeated, and never all layers at once."""

from reliability.retry.attempts import (
    PREVIOUS_ATTEMPTS,
    parse_attempts,
    previous_attempts,
    previous_attempts_scope,
    retry,
)
from reliability.retry.backoff import full_jitter, parse_retry_after
from reliability.retry.budget import RetryBudget
from reliability.retry.classify import PERMANENT, PUSHED_BACK, SAFE, UNKNOWN, Again, Classifier, Verdict, classify

__all__ = [
    "PERMANENT",
    "PREVIOUS_ATTEMPTS",
    "PUSHED_BACK",
    "SAFE",
    "UNKNOWN",
    "Again",
    "Classifier",
    "RetryBudget",
    "Verdict",
    "classify",
    "full_jitter",
    "parse_attempts",
    "parse_retry_after",
    "previous_attempts",
    "previous_attempts_scope",
    "retry",
]
