"""A received message, as its readers see it."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

__all__ = ["Message", "parse"]

CORRELATION_HEADER = "X-Correlation-ID"


@dataclass(frozen=True, slots=True)
class Message:
    """`to` and `sender` are the envelope's: whom it was for, not whom it names."""

    id: str
    received_at: str
    sender: str
    to: list[str]
    subject: str
    correlation_id: str
    headers: dict[str, str]
    text: str
    html: str

    def document(self) -> dict[str, Any]:
        """The JSON of it."""
        return {
            "id": self.id,
            "from": self.sender,
            "to": self.to,
            "subject": self.subject,
            "headers": self.headers,
            "text": self.text,
            "html": self.html,
            "received_at": self.received_at,
            "correlation_id": self.correlation_id,
        }


def parse(raw: bytes, sender: str, to: list[str]) -> Message:
    """Reads what came over the wire. Of a header that is there twice, the first counts."""
    mail = BytesParser(policy=policy.default).parsebytes(raw)
    headers: dict[str, str] = {}
    for name, value in mail.items():
        headers.setdefault(name, str(value))
    return Message(
        id=uuid.uuid4().hex,
        received_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        sender=sender,
        to=to,
        subject=str(mail.get("Subject", "")),
        correlation_id=str(mail.get(CORRELATION_HEADER, "")),
        headers=headers,
        text=_body(mail, "plain"),
        html=_body(mail, "html"),
    )


def _body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()) if part is not None else ""
