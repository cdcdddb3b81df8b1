"""Counts that cost a dictionary entry: they are handed on when somebody reads the metrics, not at each event."""

from collections import Counter
from collections.abc import Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["Tally"]


class Tally:
    """A counter of OpenTelemetry's, observed instead of told. For what is counted on the way of every request."""

    def __init__(self, name: str, description: str) -> None:
        self._counts: Counter[tuple[tuple[str, str], ...]] = Counter()
        metrics.get_meter("reliability").create_observable_counter(name, [self._observe], description=description)

    def add(self, amount: int, attributes: Mapping[str, str]) -> None:
        """Counts `amount` more under these attributes, always named in the same order."""
        self._counts[tuple(attributes.items())] += amount

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, dict(attributes)) for attributes, count in tuple(self._counts.items())]
