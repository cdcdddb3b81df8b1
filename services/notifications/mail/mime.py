"""From a message to the bytes on the wire."""

import email.policy
import hashlib
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.utils import format_datetime

from services.notifications.mail.domain import Message

__all__ = ["compose"]

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
    mail["X-Correlation-ID"] = message.correlation_id
    # RFC 3834: no out-of-office answers, please.
    mail["Auto-Submitted"] = "auto-generated"
    mail["MIME-Version"] = "1.0"
    mail["Content-Type"] = "multipart/alternative"
    mail.set_payload([_part(message.content.text, "plain"), _part(message.content.html, "html")])
    mail.set_boundary("=_" + hashlib.sha256(message.message_id.encode()).hexdigest()[:32])
    return mail.as_bytes()


def _part(content: str, subtype: str) -> MIMEPart:
    part = MIMEPart(policy=_POLICY)
    part.set_content(content, subtype=subtype, charset="utf-8", cte="quoted-printable")
    return part
