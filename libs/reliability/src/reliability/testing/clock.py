"""A clock that stands still until it is moved, so that no test waits and none depends on how fast it runs."""

__all__ = ["FakeClock"]


class FakeClock:
    """Seconds, as in `now=clock`. `clock.time` is the wall clock that goes with it, `clock.sleep` moves both.

    They begin at `start`, and at `epoch` seconds after 1970.
    """

    def __init__(self, start: float = 1000.0, *, epoch: float = 1_800_000_000.0) -> None:
        self._now = start
        self._epoch = epoch - start
        self.slept: list[float] = []

    def __call__(self) -> float:
        """What `time.monotonic` would say."""
        return self._now

    def time(self) -> float:
        """What `time.time` would say."""
        return self._epoch + self._now

    def advance(self, seconds: float) -> None:
        """Lets time pass. Raises `ValueError` when it would go backwards."""
        if seconds < 0:
            raise ValueError("time does not go backwards")
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """What `asyncio.sleep` would do, at once; `slept` says for how long each time."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))
