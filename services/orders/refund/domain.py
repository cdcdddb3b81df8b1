"""A refund somebody here decided on, and its states.

asked ──payments says it went back──> refunded ──the bank sends it back──> failed
  └──────payments refuses it, or it fails────────────────────────────────────^
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

__all__ = ["NewRefund", "RefundRequest", "RequestState", "request_of"]

_PREFIX: Final = "refund-request:"


class RequestState(StrEnum):
    """Held by a CHECK constraint and guarded UPDATEs."""

    ASKED = "asked"
    REFUNDED = "refunded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewRefund:
    """Money that went back, in minor units; `key` names the request it answers, empty when nobody here asked."""

    refund_id: str
    order_id: str
    amount: int
    currency: str
    payment_intent_id: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Money to be sent back, in minor units; `reason` is a sentence for the customer, or the code of one."""

    id: str
    order_id: str
    payment_intent_id: str
    amount: int
    currency: str
    reason: str
    actor: str
    state: RequestState
    failure: str | None
    created_at: datetime

    @property
    def key(self) -> str:
        """What payments recognises a repetition by."""
        return f"{_PREFIX}{self.id}"


def request_of(key: str) -> str | None:
    """The id of the request a key names; None for keys that are not of this kind."""
    return key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else None
