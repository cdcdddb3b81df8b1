"""A received message, as its readers see it."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesHeaderParser, BytesParser
from email.utils import parseaddr
from typing import Any

__all__ = ["CORRELATION_HEADER", "Envelope", "Message", "compose", "glance", "parse"]

CORRELATION_HEADER = "X-Correlation-ID"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a message before anybody reads it.

    Reading one takes some milliseconds, and of a campaign's hundred thousand a few are ever looked at.
    """

    id: str
    received_at: str
    sender: str
    to: list[str]
    subject: str
    correlation_id: str

    @classmethod
    def new(cls, sender: str, to: list[str], subject: str, correlation_id: str) -> "Envelope":
        """Of a message that arrives now."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(uuid.uuid4().hex, now, sender, to, subject, correlation_id)


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


def glance(raw: bytes, sender: str, to: list[str]) -> Envelope:
    """What a list of messages shows of one that came over the wire."""
    head = BytesHeaderParser(policy=policy.default).parsebytes(raw)
    return Envelope.new(sender, to, str(head.get("Subject", "")), str(head.get(CORRELATION_HEADER, "")))


def parse(raw: bytes) -> tuple[dict[str, str], str, str]:
    """Headers, text and HTML of what came over the wire. Of a header that is there twice, the first counts."""
    mail = BytesParser(policy=policy.default).parsebytes(raw)
    headers: dict[str, str] = {}
    for name, value in mail.items():
        headers.setdefault(name, str(value))
    return headers, _body(mail, "plain"), _body(mail, "html")


def compose(entry: Mapping[str, Any], attachments: Iterable[tuple[str, str, bytes]] = ()) -> bytes:
    """What was asked for over HTTP as it would arrive. Attachments are names, media types and bytes."""
    letter = EmailMessage(policy=policy.SMTP)
    letter["From"] = _named(entry["from"])
    letter["To"] = [_named(value) for value in entry["to"]]
    letter["Subject"] = entry["subject"]
    for name, value in entry["headers"].items():
        if name.lower() not in {"from", "to", "subject"}:
            letter[name] = value
    letter.set_content(entry["text"])
    if entry["html"]:
        letter.add_alternative(entry["html"], subtype="html")
    for filename, media_type, content in attachments:
        main, _, sub = media_type.partition(";")[0].partition("/")
        letter.add_attachment(content, maintype=main, subtype=sub, filename=filename)
    return letter.as_bytes()


def _named(value: str) -> Address:
    name, address = parseaddr(value)
    return Address(name, addr_spec=address)


def _body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()) if part is not None else ""
