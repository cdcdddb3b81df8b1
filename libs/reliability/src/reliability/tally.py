"""Counts that cost a dictionary entry: they are handed on when somebody reads the metrics, not at each event."""

from collections import Counter
from collections.abc import Iterable, Sequence

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["Tally"]


class Tally:
    """A counter of OpenTelemetry's, observed instead of told. For what is counted on the way of every request."""

    def __init__(self, name: str, description: str, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._counts: Counter[tuple[str, ...]] = Counter()
        metrics.get_meter("reliability").create_observable_counter(name, [self._observe], description=description)

    def add(self, *values: str) -> None:
        """Counts one more under these values of the labels."""
        self._counts[values] += 1

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, dict(zip(self._labels, values, strict=True)))
            for values, count in tuple(self._counts.items())
        ]
