"""From a message to the bytes on the wire."""

import email.policy
import hashlib
import re
from binascii import b2a_qp
from collections.abc import Iterable
from email.headerregistry import Address
from email.utils import format_datetime
from typing import Final

from services.notifications.mail.domain import Message

__all__ = ["CALENDAR_FILE", "calendar_type", "compose", "headers_of"]

CALENDAR_FILE: Final = "appointment.ics"
_METHOD: Final = re.compile(r"^METHOD:([A-Z]+)\r?$", re.MULTILINE)
# Everything is 7-bit: no server has to announce anything for it, and no relay has a reason to re-encode it.
_POLICY: Final = email.policy.SMTP.clone(cte_type="7bit")
_LINE: Final = 78
_LONGEST: Final = 900
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# What stands in a header as it is: printable ASCII, and nothing that could be read as an encoded word (RFC 2047).
_PRINTABLE: Final = re.compile(r"(?!.*=\?)[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_UNBROKEN: Final = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]+>")
# RFC 5322, section 3.2.3, of which words need no quotes, single spaces between them.
_ATOMS: Final = re.compile(r"([A-Za-z0-9]+( [A-Za-z0-9]+)*)?")
_PLAIN_ADDRESS: Final = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def compose(message: Message, sender: str) -> bytes:
    """The mail as RFC 5322 and MIME write it, with CRLF line ends.

    The same message gives the same bytes: the boundary comes from the Message-ID, the date from the message. Raises
    `ValueError` for a value with a line end in it.
    """
    headers = [
        _header("From", sender),
        _recipient(message),
        _header("Subject", message.content.subject),
        _header("Date", format_datetime(message.date)),
        _header("Message-ID", message.message_id),
        *(_header(name, value) for name, value in headers_of(message).items()),
        _header("MIME-Version", "1.0"),
    ]
    body = _multipart(
        "alternative", message, [_part(message.content.text, "plain"), _part(message.content.html, "html")]
    )
    if message.calendar:
        body = _multipart("mixed", message, [body, _calendar(message.calendar)])
    return b"".join(headers) + body


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


def _multipart(kind: str, message: Message, parts: Iterable[bytes]) -> bytes:
    boundary = "=_" + hashlib.sha256(f"{kind} {message.message_id}".encode()).hexdigest()[:32]
    line = f"--{boundary}".encode()
    head = f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"\r\n\r\n'.encode()
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _calendar(content: str) -> bytes:
    disposition = f'Content-Disposition: attachment; filename="{CALENDAR_FILE}"\r\n'
    return disposition.encode() + _encoded(content, calendar_type(content))


def _part(content: str, subtype: str) -> bytes:
    return _encoded(content, f'text/{subtype}; charset="utf-8"')


def _encoded(content: str, media_type: str) -> bytes:
    """A part in quoted-printable (RFC 2045, section 6.7), whose line ends are CRLF whatever they were."""
    text = "\r\n".join(_LINE_END.split(content))
    # b2a_qp ends the lines it breaks as the first line of the text ends.
    whole = (text if text.endswith("\r\n") else f"{text}\r\n").encode()
    head = f"Content-Type: {media_type}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head.encode() + b2a_qp(whole, istext=True)


def _recipient(message: Message) -> bytes:
    # An address that needs no quoting, by far the most of them, is spared the parser.
    if _ATOMS.fullmatch(message.name) and _PLAIN_ADDRESS.fullmatch(message.to):
        line = f"To: {message.name} <{message.to}>" if message.name else f"To: {message.to}"
        if len(line) <= _LINE:
            return f"{line}\r\n".encode()
    return _folded("To", Address(message.name, addr_spec=message.to))


def _header(name: str, value: str) -> bytes:
    line = f"{name}: {value}"
    if len(line) <= _LINE and _PRINTABLE.fullmatch(value):
        return f"{line}\r\n".encode()
    if name == "List-Unsubscribe" and len(line) <= _LONGEST and _UNBROKEN.fullmatch(value):
        return f"{line}\r\n".encode()  # nothing in a link may be broken, and one line is read alike by everybody
    return _folded(name, value)


def _folded(name: str, value: str | Address) -> bytes:
    """By the standard library: encoded words, folding, and the refusal of line ends. It takes a tenth of a ms."""
    return _POLICY.fold_binary(*_POLICY.header_store_parse(name, value))
