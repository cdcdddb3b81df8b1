"""What is counted of mail; the alerts in deploy/alerts/notifications.yaml read these."""

from typing import Final

from opentelemetry import metrics

from services.notifications.mail.domain import Category, EmailState

__all__ = ["attempts", "critical", "queue_age", "settled", "settled_recipient"]

_meter: Final = metrics.get_meter("holdfast")
attempts: Final = _meter.create_counter(
    "holdfast.mail.attempts", description="Attempts to send a mail by category and verdict"
)
critical: Final = _meter.create_counter(
    "holdfast.mail.critical_failures", description="Mails that matter and failed for good, by template"
)
queue_age: Final = _meter.create_gauge(
    "holdfast.mail.queue_age", unit="s", description="Age of the oldest mail that has not gone out"
)
_settled: Final = _meter.create_counter(
    "holdfast.mail.settled", description="Mails by category, final state, and whether they took more than one attempt"
)
_recovery: Final = _meter.create_histogram(
    "holdfast.mail.recovery",
    unit="s",
    description="Seconds until a mail that failed at first was sent",
    explicit_bucket_boundaries_advisory=[1, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400],
)


def settled(category: Category, state: EmailState, *, retried: bool, age: float) -> None:
    """Counts a mail whose fate is sealed. The recovery rate is sent among retried, the failure rate the rest."""
    _settled.add(1, {"category": category, "state": state, "retried": retried})
    if retried and state is EmailState.SENT:
        _recovery.record(age, {"category": category})


def settled_recipient(state: str, *, retried: bool) -> None:
    """Counts a campaign's recipient whose fate is sealed."""
    _settled.add(1, {"category": Category.MARKETING, "state": state, "retried": retried})
