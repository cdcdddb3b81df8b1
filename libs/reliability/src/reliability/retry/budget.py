"""A retry budget: one caller's retries help it, everybody's retries keep a dependency down."""

__all__ = ["RetryBudget"]


class RetryBudget:
    """A token bucket of one dependency, `max_tokens` deep, shared by all calls to it.

    A failure that could be retried, or that the peer forbade to retry, costs one token, a success gives `ratio` back,
    and with half of the tokens or fewer nothing is retried. In the long run at most one call in `1 / ratio` is a
    retry, however many fail. Raises `ValueError` unless both are above zero.
    Source: gRFC A6, "Throttling Retry Attempts and Hedged RPCs"; gRPC's own examples take 10 and 0.1.
    """

    __slots__ = ("_half", "_max", "_ratio", "_tokens")

    def __init__(self, max_tokens: float = 100.0, ratio: float = 0.1) -> None:
        if not (max_tokens > 0 and ratio > 0):
            raise ValueError("a retry budget needs tokens and a ratio above zero")
        self._max, self._ratio = max_tokens, ratio
        self._half = max_tokens / 2
        self._tokens = max_tokens

    @property
    def tokens(self) -> float:
        """What is left."""
        return self._tokens

    @property
    def allows(self) -> bool:
        """Whether a retry may be made now."""
        return self._tokens > self._half

    def succeeded(self) -> None:
        """A call that got its answer."""
        if self._tokens < self._max:
            self._tokens = min(self._max, self._tokens + self._ratio)

    def failed(self) -> None:
        """A call that failed in a way that could be retried, whether or not it is."""
        self._tokens = max(0.0, self._tokens - 1.0)
