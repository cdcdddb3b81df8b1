"""What a campaign is.

campaign:   draft ──send──> sending <──resume── paused      draft ──send at──> scheduled ──its time──> sending
                           │ │ └──────pause─────^
                           │ └──last recipient settled──> finished
                           └──cancel, also from scheduled and paused──> cancelled
recipient:  queued ──claim──> sending ──accepted──> sent
            ^  │                │ ├── refused, out of attempts ──> failed
            │  │                │ ├── interrupted ──> unknown (a late answer may still make it sent or failed)
            └──┼──── later ─────┘
               └── consent withdrawn, address suppressed ──> suppressed
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from services.notifications.mail.domain import MAX_ATTEMPTS, Message, Outcome, Rendered, Verdict

__all__ = [
    "Batch",
    "Body",
    "CampaignStatus",
    "Chunk",
    "Draft",
    "Frozen",
    "Recipient",
    "RecipientState",
    "Shipment",
    "Started",
    "Stats",
    "cut",
    "slot",
    "state_after",
]


class CampaignStatus(StrEnum):
    """Where a campaign is."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    SENDING = "sending"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class RecipientState(StrEnum):
    """Where one recipient's mail is. The last four are final."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Body:
    """A rendered mail, cut at the places where each recipient's own words go: text, slot, text, ..., text.

    It is stored with the draft, so that what a recipient gets follows from stored rows alone.
    """

    html: tuple[str, ...]
    text: tuple[str, ...]

    def fill(self, words: Mapping[str, str]) -> tuple[str, str]:
        """HTML and text for one recipient; words are escaped in the HTML."""
        escaped = {name: html.escape(word) for name, word in words.items()}
        return _join(self.html, escaped), _join(self.text, words)


def slot(marker: str, name: str) -> str:
    """What stands for a recipient's words while the mail is rendered. `marker` must occur nowhere else."""
    return f"{marker}:{name}:"


def cut(rendered: str, marker: str) -> tuple[str, ...]:
    """The pieces of a text around its slots."""
    return tuple(re.split(re.escape(marker) + r":(\w+):", rendered))


def _join(pieces: tuple[str, ...], words: Mapping[str, str]) -> str:
    return "".join(words[piece] if at % 2 else piece for at, piece in enumerate(pieces))


@dataclass(frozen=True, slots=True)
class Draft:
    """A campaign to be stored."""

    name: str
    subject: str
    template: str | None
    html: str | None
    body: Body
    audience: dict[str, Any]
    staff_id: str


@dataclass(frozen=True, slots=True)
class Started:
    """A campaign that was sent: its recipients are frozen, or being frozen, or it waits for its time."""

    id: str
    status: CampaignStatus
    recipients: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an audience that was frozen; `last` when there is no other."""

    recipients: int
    last: bool


@dataclass(frozen=True, slots=True)
class Shipment:
    """Recipients whose mails go out as one request, stored before it does.

    `fresh` is one nobody has tried to send: what is not, the provider may have accepted unseen.
    """

    id: str
    packed: bytes
    age: float
    recipients: "tuple[Recipient, ...]"
    fresh: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of a campaign's recipients, always the same ones."""

    campaign_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient whose mail is about to go out; `attempt` counts from 1 and grows with each."""

    contact_id: str
    email: str
    name: str
    message_id: str
    attempt: int
    unreached: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What every recipient of a started campaign gets."""

    subject: str
    body: Body
    correlation_id: str
    started_at: datetime
    batches: int
    status: CampaignStatus

    def message(self, recipient: Recipient, greeting: str, unsubscribe: str) -> Message:
        """One recipient's mail."""
        html_part, text = self.body.fill({"greeting": greeting, "unsubscribe": unsubscribe})
        return Message(
            to=recipient.email,
            name=recipient.name,
            content=Rendered(self.subject, html_part, text),
            message_id=recipient.message_id,
            correlation_id=self.correlation_id,
            date=self.started_at,
            unsubscribe=unsubscribe,
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """Recipients by state; the states add up to `recipients`. `cancelled` are those still queued at the end."""

    status: CampaignStatus
    recipients: int
    queued: int
    sent: int
    failed: int
    unknown: int
    suppressed: int
    cancelled: int


def state_after(recipient: Recipient, outcome: Outcome) -> RecipientState:
    """The state an attempt leaves a recipient in. What may have been accepted is never sent again."""
    match outcome.verdict:
        case Verdict.ACCEPTED:
            return RecipientState.SENT
        case Verdict.REFUSED:
            return RecipientState.FAILED
        case Verdict.TRY_LATER:
            answered = recipient.attempt - recipient.unreached
            return RecipientState.QUEUED if answered < MAX_ATTEMPTS else RecipientState.FAILED
        case Verdict.UNREACHABLE:
            return RecipientState.QUEUED
        case Verdict.UNKNOWN:
            return RecipientState.UNKNOWN
        case _:
            assert_never(outcome.verdict)
