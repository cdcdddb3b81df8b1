"""A message's bytes: the same each time, 7-bit, and with no header that was smuggled in."""

from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.notifications.mail.domain import Message, Rendered
from services.notifications.mail.mime import compose

SENDER = "Holdfast <shop@holdfast.example>"


def message(**changes: str) -> Message:
    values = {
        "to": "ada@example.com",
        "name": "",
        "subject": "Subject",
        "html": "<p>Hello</p>",
        "text": "Hello\n",
        "message_id": "<1@holdfast.example>",
        **changes,
    }
    content = Rendered(values["subject"], values["html"], values["text"])
    date = datetime(2026, 11, 24, 12, tzinfo=UTC)
    return Message(values["to"], content, values["message_id"], "flow-1", date, values["name"])


def read(raw: bytes) -> EmailMessage:
    return BytesParser(policy=policy.default).parsebytes(raw)


def test_the_same_message_has_the_same_bytes() -> None:
    """A resend is the identical mail; another mail has another boundary."""
    assert compose(message(), SENDER) == compose(message(), SENDER)
    other = read(compose(message(message_id="<2@holdfast.example>"), SENDER))
    assert other.get_boundary() != read(compose(message(), SENDER)).get_boundary()


def test_headers() -> None:
    """Who, to whom, what, when, and under which correlation id."""
    mail = read(compose(message(name="Ada Lovelace"), SENDER))
    assert mail["From"] == SENDER
    assert mail["To"] == "Ada Lovelace <ada@example.com>"
    assert mail["Date"] == "Tue, 24 Nov 2026 12:00:00 +0000"
    assert mail["Message-ID"] == "<1@holdfast.example>"
    assert mail["X-Correlation-ID"] == "flow-1"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


def test_any_language_survives_seven_bits() -> None:
    """Umlauts, emoji and long lines arrive as they were, over a server that knows ASCII only."""
    raw = compose(
        message(subject="Größe 🐕 " * 20, name="Zoë", html="<p>" + "ü" * 3000 + "</p>", text="日本語\n"), SENDER
    )
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    mail = read(raw)
    html, text = mail.get_body(("html",)), mail.get_body(("plain",))
    assert html is not None
    assert text is not None
    assert mail["Subject"].strip() == ("Größe 🐕 " * 20).strip()
    assert "ü" * 3000 in html.get_content()
    assert text.get_content().strip() == "日本語"


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\t .=?<>"@,()'), max_size=200)


@given(html=WORDS, text=WORDS)
@example(html=".", text="From me\n.\n..\nx ")
@example(html="=?utf-8?q?=41?=", text="=41=\n")
def test_any_words_arrive_as_they_were(html: str, text: str) -> None:
    """Line by line, dots and equal signs and trailing blanks too; no line is too long for a server."""
    raw = compose(message(html=html, text=text), SENDER)
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 76
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    parts = [part.get_payload(decode=True) for part in read(raw).iter_parts()]
    for part, said in zip(parts, (text, html), strict=True):
        assert isinstance(part, bytes)
        assert part.decode().replace("\r\n", "\n").removesuffix("\n") == said.removesuffix("\n")


@given(
    subject=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=150), name=WORDS
)
@example(subject="=?utf-8?q?=41?=", name="Ada")
@example(subject="a =?b?= c", name="")
def test_headers_written_by_hand_are_read_as_the_standard_library_writes_them(subject: str, name: str) -> None:
    """What is spared the parser is what the parser would have made of it."""
    made = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    try:
        made["Subject"], made["To"] = subject, Address(name, addr_spec="ada@example.com")
        expected = read(made.as_bytes())
    except (ValueError, IndexError):  # the library's own limits: such a name or subject is refused
        return
    mail = read(compose(message(subject=subject, name=name), SENDER))
    assert mail["Subject"] == expected["Subject"]
    assert mail["To"] == expected["To"]


@pytest.mark.parametrize("field", ["subject", "name", "to", "message_id"])
def test_no_header_can_be_smuggled_in(field: str) -> None:
    """A line break in a field never becomes a header, even when the checks before it failed."""
    try:
        raw = compose(message(**{field: "ada@example.com\r\nBcc: eve@example.com"}), SENDER)
    except ValueError:
        return
    assert read(raw)["Bcc"] is None


@pytest.mark.parametrize("name", ['Ada "the" L', "Ada, Eve <eve@example.com>", "a@b.c", "<x>"])
def test_a_name_is_only_a_name(name: str) -> None:
    """A display name that looks like an address adds no recipient."""
    mail = read(compose(message(name=name), SENDER))
    assert [address.addr_spec for address in mail["To"].addresses] == ["ada@example.com"]
    assert mail["To"].addresses[0].display_name == name


INVITATION = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nSUMMARY:Größe 🐕\r\nEND:VCALENDAR\r\n"


def test_a_calendar_file_comes_with_the_mail() -> None:
    """Text and HTML as before, and beside them the file, with the method a calendar acts on; same bytes each time."""
    with_file = replace(message(), calendar=INVITATION)
    assert compose(with_file, SENDER) == compose(with_file, SENDER)
    mail = read(compose(with_file, SENDER))
    assert mail.get_content_type() == "multipart/mixed"
    assert [part.get_content_type() for part in mail.iter_attachments()] == ["text/calendar"]
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "appointment.ics"
    assert attached.get_param("method") == "REQUEST"
    assert attached.get_content().replace("\r\n", "\n") == INVITATION.replace("\r\n", "\n")
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "Hello"
