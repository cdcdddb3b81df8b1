"""From a message to the bytes on the wire."""

import email.policy
import hashlib
import re
from collections.abc import Iterable
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.utils import format_datetime
from typing import Final

from services.notifications.mail.domain import Message

__all__ = ["CALENDAR_FILE", "calendar_type", "compose", "headers_of"]

CALENDAR_FILE: Final = "appointment.ics"
_METHOD: Final = re.compile(r"^METHOD:([A-Z]+)\r?$", re.MULTILINE)
# Everything is 7-bit: no server has to announce anything for it, and no relay has a reason to re-encode it.
_POLICY = email.policy.SMTP.clone(cte_type="7bit")


def compose(message: Message, sender: str) -> bytes:
    """The mail as RFC 5322 and MIME write it, with CRLF line ends.

    The same message gives the same bytes: the boundary comes from the Message-ID, the date from the message.
    """
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = sender
    mail["To"] = Address(message.name, addr_spec=message.to)
    mail["Subject"] = message.content.subject
    mail["Date"] = format_datetime(message.date)
    mail["Message-ID"] = message.message_id
    for name, value in headers_of(message).items():
        mail[name] = value
    mail["MIME-Version"] = "1.0"
    bodies = [_part(message.content.text, "plain"), _part(message.content.html, "html")]
    if message.calendar:
        alternative = MIMEPart(policy=_POLICY)
        _assemble(alternative, "alternative", bodies, message)
        _assemble(mail, "mixed", [alternative, _calendar(message.calendar)], message)
    else:
        _assemble(mail, "alternative", bodies, message)
    return mail.as_bytes()


def headers_of(message: Message) -> dict[str, str]:
    """The headers that are ours to choose, whoever delivers.

    RFC 3834: no out-of-office answers, please. RFC 8058: one click in the mail program ends the subscription.
    """
    headers = {"X-Correlation-ID": message.correlation_id, "Auto-Submitted": "auto-generated"}
    if message.unsubscribe:
        headers["List-Unsubscribe"] = f"<{message.unsubscribe}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def calendar_type(calendar: str) -> str:
    """The media type of an iCalendar file; a mail client acts on the method it names (RFC 6047, section 2.4)."""
    found = _METHOD.search(calendar)
    return f"text/calendar; charset=utf-8; method={found[1] if found else 'PUBLISH'}"


def _assemble(whole: MIMEPart, kind: str, parts: Iterable[MIMEPart], message: Message) -> None:
    whole["Content-Type"] = f"multipart/{kind}"
    whole.set_payload([*parts])
    whole.set_boundary("=_" + hashlib.sha256(f"{kind} {message.message_id}".encode()).hexdigest()[:32])


def _calendar(content: str) -> MIMEPart:
    part = _part(content, "calendar")
    part.replace_header("Content-Type", calendar_type(content))
    part.add_header("Content-Disposition", "attachment", filename=CALENDAR_FILE)
    return part


def _part(content: str, subtype: str) -> MIMEPart:
    part = MIMEPart(policy=_POLICY)
    part.set_content(content, subtype=subtype, charset="utf-8", cte="quoted-printable")
    return part
