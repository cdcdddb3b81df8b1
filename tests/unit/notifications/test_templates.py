"""What each mail says, and that nobody's name can say anything else."""

import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reliability.errors import ValidationFailed
from services.notifications.errors import UnknownTemplate
from services.notifications.mail.domain import Category, Rendered
from services.notifications.mail.samples import SAMPLES
from services.notifications.mail.templates import Templates

SNAPSHOTS = Path(__file__).with_name("snapshots")
ATTACK = '<script>alert(1)</script>"&'
TEMPLATES = Templates()


def money(amount: int, currency: str = "USD") -> dict[str, Any]:
    return {"amount": amount, "currency": currency}


ORDER: dict[str, Any] = dict(SAMPLES["order_confirmation"])
REFUND: dict[str, Any] = dict(SAMPLES["refund_issued"])
VISIT: dict[str, Any] = dict(SAMPLES["appointment_booked"])
UNSUBSCRIBE = "https://shop.example/api/unsubscribe/token"


def render(name: str, data: dict[str, Any]) -> Rendered:
    return TEMPLATES.render(TEMPLATES.find(name), data, unsubscribe=UNSUBSCRIBE, attached=True)[1]


def campaign() -> Rendered:
    body = "<h1>Autumn</h1><p>New <a href='https://shop.holdfast.example/coats'>coats</a>.</p>"
    return TEMPLATES.campaign(
        "Autumn is here", greeting="Hello Ada,", template=None, html=body, unsubscribe=UNSUBSCRIBE
    )


def mail_named(name: str) -> Rendered:
    return campaign() if name == "campaign" else render(name, dict(SAMPLES[name]))


def test_every_template_has_a_sample() -> None:
    """What can be sent can be looked at first."""
    assert set(SAMPLES) == set(TEMPLATES.names)


@pytest.mark.parametrize("name", [*SAMPLES, "campaign"])
def test_each_mail_is_as_it_was_looked_at(name: str) -> None:
    """A change of wording or layout is seen in review: run with UPDATE_SNAPSHOTS=1 and look at the difference."""
    mail = mail_named(name)
    for suffix, content in (("html", mail.html), ("txt", f"{mail.subject}\n\n{mail.text}")):
        file = SNAPSHOTS / f"{name}.{suffix}"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
        assert content == file.read_text()


class _Shape(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "background"}]


def shape(html: str) -> _Shape:
    parser = _Shape()
    parser.feed(html)
    return parser


@pytest.mark.parametrize("name", SAMPLES)
def test_any_client_can_show_it(name: str) -> None:
    """No style sheet, no script, nothing fetched: the styles are on the elements."""
    html = mail_named(name).html
    found = shape(html)
    assert not {"style", "script", "link", "img"} & set(found.tags)
    assert all(address.startswith("https://") for address in found.addresses)
    assert html.startswith("<!DOCTYPE html>")
    assert html.count("style=") > 10


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("order_confirmation", ORDER | {"customer_name": ATTACK}),
        ("order_confirmation", ORDER | {"order_number": ATTACK}),
        ("order_confirmation", ORDER | {"items": [ORDER["items"][0] | {"title": ATTACK}]}),
        ("order_confirmation", ORDER | {"shipping_address": ORDER["shipping_address"] | {"line1": ATTACK}}),
        ("refund_issued", REFUND | {"reason": ATTACK}),
        ("refund_issued", REFUND | {"customer_name": ATTACK}),
        ("care_tips", {"customer_name": ATTACK}),
        ("appointment_booked", VISIT | {"pet_name": ATTACK}),
        ("appointment_booked", VISIT | {"note": ATTACK}),
        ("session_ended", dict(SAMPLES["session_ended"]) | {"device": ATTACK}),
        ("back_in_stock", dict(SAMPLES["back_in_stock"]) | {"title": ATTACK}),
        ("mail_failed", dict(SAMPLES["mail_failed"]) | {"error": ATTACK}),
    ],
)
def test_no_value_becomes_markup(name: str, data: dict[str, Any]) -> None:
    """`<script>` in a name is text in the HTML, wherever it stands, and itself in the plain text."""
    mail = render(name, data)
    assert "<script" not in mail.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in mail.html
    assert ATTACK in mail.text
    assert shape(mail.html).tags.count("script") == 0


def test_a_subject_in_a_campaign_is_escaped_too() -> None:
    """Staff's HTML is theirs; their subject is text."""
    mail = TEMPLATES.campaign(ATTACK, greeting="Hello,", template=None, html="<b>x</b>")
    assert "<script" not in mail.html
    assert mail.subject == ATTACK


def test_a_campaign_fetches_nothing_while_it_is_rendered(tmp_path: Path) -> None:
    """A style sheet named in staff's HTML is not loaded: rendering needs no network and reads no file."""
    sheet = tmp_path / "sheet.css"
    sheet.write_text("p { color: #123456 }")
    html = f'<link rel="stylesheet" href="{sheet.as_uri()}"><p>Hello</p>'
    assert "#123456" not in TEMPLATES.campaign("s", greeting="Hello,", template=None, html=html).html


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(1299, "USD", "$12.99"), (123456789, "EUR", "€1,234,567.89"), (1299, "JPY", "¥1,299"), (1299, "KWD", "1.299")],
)
def test_money_is_written_as_its_currency_is(amount: int, currency: str, shown: str) -> None:
    """Minor units are hundredths, thousandths or none, as the currency has them."""
    assert shown in render("refund_issued", REFUND | {"amount": money(amount, currency)}).text


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({key: value for key, value in ORDER.items() if key != "total"}, "/data/total"),
        (ORDER | {"items": []}, "/data/items"),
        (ORDER | {"items": [{"title": "x"}]}, "/data/items/0/quantity"),
        (ORDER | {"total": money(-1)}, "/data/total/amount"),
        (ORDER | {"total": {"amount": 12.5, "currency": "USD"}}, "/data/total/amount"),
        (ORDER | {"customer_name": "x" * 201}, "/data/customer_name"),
    ],
)
def test_bad_data_is_named(data: dict[str, Any], pointer: str) -> None:
    """A missing or impossible field is refused with a pointer to it."""
    with pytest.raises(ValidationFailed) as caught:
        render("order_confirmation", data)
    assert pointer in {error["pointer"] for error in caught.value.extensions["errors"]}


def test_a_newer_caller_is_understood() -> None:
    """Fields a template does not know yet are ignored, and not stored."""
    data, _ = TEMPLATES.render(TEMPLATES.find("order_confirmation"), ORDER | {"gift_wrap": True})
    assert "gift_wrap" not in data.model_dump()


def test_stored_data_renders_to_the_same_mail() -> None:
    """What is kept of the data is enough to write the mail again."""
    for name, given in SAMPLES.items():
        data, first = TEMPLATES.render(TEMPLATES.find(name), given, unsubscribe=UNSUBSCRIBE, attached=True)
        assert render(name, data.model_dump(mode="json")) == first


@pytest.mark.parametrize("name", ["no_such", "", "../secrets", "_layout", "campaign"])
def test_only_the_catalogue_has_templates(name: str) -> None:
    """A name is looked up, never turned into a path."""
    with pytest.raises(UnknownTemplate):
        TEMPLATES.find(name)


def test_a_campaign_needs_a_marketing_template() -> None:
    """An order confirmation to everybody would say things that are not so."""
    assert TEMPLATES.find("order_confirmation").category is Category.TRANSACTIONAL
    with pytest.raises(UnknownTemplate, match="not for campaigns"):
        TEMPLATES.campaign("s", greeting="Hello,", template="order_confirmation", html=None)


@pytest.mark.parametrize(
    ("locale", "timezone", "shown"),
    [
        ("en_US", "America/Chicago", ["Tuesday, December 1, 2026", "9:30 AM", "CST"]),
        ("en-GB", "Europe/London", ["Tuesday, 1 December 2026", "15:30", "GMT"]),
        ("de", "Asia/Kolkata", ["Dienstag, 1. Dezember 2026", "21:00", "IST"]),
        ("en_US", "America/Sao_Paulo", ["12:30 PM", "America/Sao_Paulo"]),
    ],
)
def test_times_are_on_the_clock_of_the_reader(locale: str, timezone: str, shown: list[str]) -> None:
    """A date and a time are written as the reader's locale does, where the reader's clock is."""
    mail = render("appointment_booked", VISIT | {"locale": locale, "timezone": timezone})
    for words in shown:
        assert words in mail.text
        assert words in mail.html


def test_money_is_written_as_the_locale_does() -> None:
    """The same amount for a reader in Germany."""
    assert "92,04\N{NO-BREAK SPACE}$" in render("refund_issued", REFUND | {"locale": "de-DE"}).subject


@pytest.mark.parametrize(
    ("minutes", "shown"), [(30, "30 minutes"), (60, "1 hour"), (1440, "24 hours"), (2880, "2 days")]
)
def test_how_long_a_link_works(minutes: int, shown: str) -> None:
    """The largest unit that comes out whole."""
    assert f"for {shown}" in render("password_reset", dict(SAMPLES["password_reset"]) | {"valid_minutes": minutes}).text


@pytest.mark.parametrize(
    ("name", "data", "pointer"),
    [
        ("password_reset", {"link": "javascript:alert(1)"}, "/data/link"),
        ("password_reset", {"link": "https://shop.example/'onclick=x"}, "/data/link"),
        ("password_reset", {"link": "not an address"}, "/data/link"),
        ("password_reset", {"locale": "xx_nowhere"}, "/data/locale"),
        ("appointment_booked", {"timezone": "../etc/passwd"}, "/data/timezone"),
        ("appointment_booked", {"starts_at": "2026-12-01T15:30:00"}, "/data/starts_at"),
        ("appointment_booked", {"ends_at": "2026-12-01T15:00:00Z"}, "/data"),
        ("email_change", {"new_email": "ada@example.com\r\nBcc: eve@example.com"}, "/data/new_email"),
    ],
)
def test_links_zones_and_times_are_checked(name: str, data: dict[str, Any], pointer: str) -> None:
    """Nothing but an http address becomes a link, and a time without a zone is none."""
    with pytest.raises(ValidationFailed) as caught:
        render(name, dict(SAMPLES[name]) | data)
    assert pointer in {error["pointer"] for error in caught.value.extensions["errors"]}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_can_be_declined_says_how(name: str) -> None:
    """A mail that needs consent has the link in both parts; one that does not has none."""
    mail = mail_named(name)
    declinable = TEMPLATES.find(name).category is Category.MARKETING
    assert (UNSUBSCRIBE in mail.html) is declinable
    assert (UNSUBSCRIBE in mail.text) is declinable
