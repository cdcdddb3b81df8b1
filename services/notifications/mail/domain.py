"""What a mail is, and what becomes of it after each answer of the mail server.

queued ───> sending ──accepted──> sent
retrying ──┘   │ ├── refused, out of attempts ──> failed
   ^           │ ├── ambiguous once too often ──> unknown
   └── later ──┘ └── consent withdrawn (before sending) ──> suppressed
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

__all__ = [
    "GIVE_UP_SECONDS",
    "MAX_ATTEMPTS",
    "Attempt",
    "Category",
    "EmailState",
    "Message",
    "Outcome",
    "Rendered",
    "Topic",
    "Verdict",
    "may_resume",
    "state_after",
]

MAX_ATTEMPTS: Final = 3
# How long a mail waits for a mail server that cannot be reached at all.
GIVE_UP_SECONDS: Final = 24 * 3600.0


class Category(StrEnum):
    """Whether a mail belongs to something the customer did, or needs their consent."""

    TRANSACTIONAL = "transactional"
    MARKETING = "marketing"


class Topic(StrEnum):
    """What a mail that needs consent is about; each can be declined by itself."""

    NEWS = "news"
    """Campaigns."""
    CART_REMINDERS = "cart_reminders"
    """Something was left in a cart."""
    BACK_IN_STOCK = "back_in_stock"
    """What somebody asked to be told of."""


class EmailState(StrEnum):
    """Where a mail is. The last four are final."""

    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"

    @property
    def final(self) -> bool:
        """Whether nothing will change it any more by itself."""
        return self in {EmailState.SENT, EmailState.FAILED, EmailState.UNKNOWN, EmailState.SUPPRESSED}


class Verdict(StrEnum):
    """What one attempt told us."""

    ACCEPTED = "accepted"
    """The server took the mail."""
    REFUSED = "refused"
    """The server said no, for good (5xx)."""
    TRY_LATER = "try_later"
    """The server said not now (4xx)."""
    UNREACHABLE = "unreachable"
    """There was no server to give this mail to; it has certainly not been accepted."""
    UNKNOWN = "unknown"
    """The whole mail may have arrived, and no answer came: the server may have accepted it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and, in the server's words, why.

    `provider_id` is what a provider calls the mail it accepted; `retry_after`, in seconds, is when it wants to be
    asked again.
    """

    verdict: Verdict
    detail: str = ""
    provider_id: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail's content."""

    subject: str
    html: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A mail as it goes out. Equal messages have equal bytes, so that a resend is the same mail.

    `calendar` is an iCalendar file for the reader's calendar; `unsubscribe` the address that ends a subscription
    without another question.
    """

    to: str
    content: Rendered
    message_id: str
    correlation_id: str
    date: datetime
    name: str = ""
    calendar: str = ""
    unsubscribe: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has begun. `number` counts from 1 and grows with each.

    Of the attempts so far, `unreached` met no server, and `ambiguous` may have been accepted unseen. `remembered`
    says that whoever delivers still knows an earlier attempt of this mail and would not send it twice.
    """

    email_id: str
    category: Category
    number: int
    unreached: int
    ambiguous: int
    age: float
    message: Message
    remembered: bool = False

    @property
    def counted(self) -> int:
        """Attempts that a server answered, this one included."""
        return self.number - self.unreached


def may_resume(category: Category, ambiguous: int, *, remembered: bool) -> bool:
    """Whether a mail may go out again after an attempt that the server may have accepted.

    As often as it takes when it would be recognised. Otherwise marketing never: missing one is better than getting
    two. Transactional once, with the same Message-ID.
    """
    if remembered:
        return True
    match category:
        case Category.TRANSACTIONAL:
            return ambiguous == 0
        case Category.MARKETING:
            return False
        case _:
            assert_never(category)


def state_after(attempt: Attempt, outcome: Outcome) -> EmailState:
    """The state an attempt leaves its mail in.

    A mail that is given up after an ambiguous attempt may have arrived all the same: it is unknown, not failed,
    unless who refuses it now would know.
    """
    given_up = EmailState.UNKNOWN if attempt.ambiguous else EmailState.FAILED
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return EmailState.SENT
        case Verdict.REFUSED:
            return EmailState.FAILED if attempt.remembered else given_up
        case Verdict.TRY_LATER:
            return EmailState.RETRYING if attempt.counted < MAX_ATTEMPTS else given_up
        case Verdict.UNREACHABLE:
            return EmailState.RETRYING if attempt.age < GIVE_UP_SECONDS else given_up
        case Verdict.UNKNOWN:
            resume = may_resume(attempt.category, attempt.ambiguous, remembered=attempt.remembered)
            return EmailState.RETRYING if resume else EmailState.UNKNOWN
        case _:
            assert_never(outcome.verdict)
